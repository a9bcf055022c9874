package limits

// Caps on the input of one command that verifies many images: a list, a Kubernetes manifest,
// the tags of a repository.
const (
	ImageList = 32 << 20 // bytes of a list or manifest: about 3,000 pods as kubectl prints them
	Images    = 10_000   // images per command
)
