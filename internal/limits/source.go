package limits

// Caps on a git repository that is fetched and on the tree that is exported from it. Sizes
// are bytes.
const (
	GitOutput   = 16 << 20  // standard output of one git command, without object contents
	GitPacked   = 4 << 30   // disk space of a repository and its submodules after a fetch
	GitHistory  = 1 << 30   // the commits of a branch, without their trees; Linux needs a third of it
	GitObject   = 16 << 20  // one commit, tag or tree
	TreeFiles   = 500_000   // files, symlinks and directories of one exported tree
	TreeBytes   = 8 << 30   // their contents
	TreeDepth   = 128       // nesting of directories
	TreePath    = 4096      // a path within the tree
	Gitmodules  = 256 << 10 // .gitmodules
	Submodules  = 128       // submodules of one commit, including nested ones
	ModuleDepth = 6         // submodules within submodules
	Keys        = 1 << 20   // an allowed_signers file or an OpenPGP keyring
)
