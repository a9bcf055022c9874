// Package url stands in for github.com/hashicorp/go-getter/helper/url.
package url

import "net/url"

// Parse is url.Parse of the standard library.
func Parse(s string) (*url.URL, error) { return url.Parse(s) }
