// Package inert makes HTML pages of other people's text that run nothing and load nothing. The head
// of a page has a policy (Content Security Policy 3) that forbids scripts, forms, outer resources, and
// styles other than the page's own.
package inert

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
)

// Page is what the head of a page is made of.
type Page struct {
	Title string
	Style template.CSS
}

// Policy returns the page's Content Security Policy.
func (p Page) Policy() string {
	sum := sha256.Sum256([]byte(p.Style))
	return "default-src 'none'; img-src data:; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}

// Head defines the template "head", which takes a Page. It is all that comes before the body.
const Head = `{{define "head"}}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{.Policy}}">
<meta name="referrer" content="no-referrer">
<title>{{.Title}}</title>
<style>{{.Style}}</style>
</head>{{end}}`

// Picture returns a picture (SVG) as the address of an image in the page.
func Picture(svg []byte) template.URL {
	return template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString(svg))
}
