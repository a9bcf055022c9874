package policy

import "github.com/colophon-build/colophon/internal/strict/documents"

// in says that an error is about the value at a path of a document, and where returns it.
func in(err error, path ...any) error { return documents.In(err, path...) }
func where(err error) string          { return documents.Where(err) }
