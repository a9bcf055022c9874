package limits

// Caps on what one command verifies: a list, a Kubernetes manifest, the tags of
// a repository.
const (
	ImageList = 32 << 20 // bytes of a list or manifest; some 3,000 pods as kubectl prints them
	Images    = 10_000   // images of one command
)
