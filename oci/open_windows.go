package oci

// noFollow is nothing on Windows, where a link is opened, but only inside of the layout (os.Root).
const noFollow = 0
