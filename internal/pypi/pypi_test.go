package pypi

import "testing"

func TestName(t *testing.T) {
	for name, want := range map[string]string{"Flask": "flask", "zope.interface": "zope-interface", "Flask_-_Login": "flask-login"} {
		if got := Name(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestRequirements(t *testing.T) {
	for file, want := range map[string]bool{"requirements.txt": true, "a/requirements-dev.txt": true, "requirements/base.txt": true, "/a/requirements/base.txt": true, "base.txt": false, "requirements.in": false, "my-requirements/base.txt": false} {
		if got := Requirements(file); got != want {
			t.Errorf("%s: got %v", file, got)
		}
	}
}

// Names of files as on PyPI, and some that could be taken for one.
func TestArchive(t *testing.T) {
	for file, want := range map[string]string{
		"flask-3.0.0-py3-none-any.whl":                           "pkg:pypi/flask@3.0.0",
		"MarkupSafe-2.1.3-cp311-cp311-manylinux_2_17_x86_64.whl": "pkg:pypi/markupsafe@2.1.3",
		"zope.interface-6.1-cp311-cp311-win_amd64.whl":           "pkg:pypi/zope-interface@6.1",
		"torch-2.1.0+cu118-cp311-cp311-linux_x86_64.whl":         "pkg:pypi/torch@2.1.0+cu118",
		"ruamel_yaml_clib-0.2.8-1-cp311-cp311-win32.whl":         "pkg:pypi/ruamel-yaml-clib@0.2.8",
		"Flask-Login-0.6.3.tar.gz":                               "pkg:pypi/flask-login@0.6.3",
		"numpy-1.26.0.zip":                                       "pkg:pypi/numpy@1.26.0",
		"flask-3.0.0-py3-none-any.whl.metadata":                  "",
		"flask.whl":                                              "",
		"flask-3.0.0.whl":                                        "",
		"-3.0.0-py3-none-any.whl":                                "",
		"flask--py3-none-any.whl":                                "",
		"flask.tar.gz":                                           "",
		"-1.tar.gz":                                              "",
		"flask-.tar.gz":                                          "",
		"flask-3.0.0.tar":                                        "",
		"":                                                       "",
	} {
		if got := Archive(file); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
}
