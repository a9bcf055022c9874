module github.com/go-git/go-git/v5

go 1.26.8

replace github.com/go-git/go-billy/v5 => ../go-billy

require github.com/go-git/go-billy/v5 v5.9.2
