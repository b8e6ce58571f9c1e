package bucket

import (
	"errors"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/config"
)

func TestCheck(t *testing.T) {
	for _, good := range []string{
		"s3://logs?region=eu-central-1", "s3://logs?endpoint=https://s3.example.net", "s3://logs?endpoint=http://127.0.0.1:9000&prefix=a/b/&profile=x&use_path_style=false",
		"s3://logs?region=auto&anonymous=true", "gs://logs", "gs://logs.example.net?prefix=m1", "azblob://logs?storage_account=acct1", "azblob://$web?storage_account=acct1&prefix=log/",
		"file:///srv/www/log", "file:///srv/www/log/",
	} {
		if err := Check(good); err != nil || !Is(good) {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string][]string{
		"":                         {"the scheme"},
		"S3://logs?region=x":       {"begin with s3://"},
		"logs":                     {"the scheme"},
		"ftp://logs":               {`the scheme "ftp" is none of a store`},
		"https://logs.example.net": {`the scheme "https"`},
		"s3://logs":                {"region is missing"},
		"s3://logs?region=x&region=y&endpoint=ftp://h&sesame=1": {"want region once", "endpoint: want the provider's address", `unknown parameter "sesame": s3 has region`},
		"s3://id:sesame@logs?region=x":                          {"it holds credentials"},
		"s3://logs?region=x&endpoint=https://id:sesame@h":       {"endpoint: want"},
		"s3://logs?region=x&endpoint=https://h/logs":            {"endpoint: want"},
		"s3://logs/folder?region=x":                             {"?prefix=FOLDER/"},
		"s3://Logs?region=x":                                    {"the bucket's name"},
		"s3://logs:80?region=x":                                 {"the bucket's name"},
		"s3://logs?region=":                                     {"want region once, with a value"},
		"s3://logs?region=x#sesame":                             {"#..."},
		"s3://logs?region=x;sesame":                             {"want parameters such as"},
		"s3://logs?region=x&anonymous=false":                    {"anonymous: want true"},
		"gs://logs?region=x":                                    {`unknown parameter "region"`},
		"gs://logs?prefix=/a":                                   {"prefix: want a folder"},
		"gs://logs?prefix=a//b":                                 {"prefix: want a folder"},
		"gs://logs?prefix=a/../b":                               {"prefix: want a folder"},
		"gs://logs?prefix=a b":                                  {"prefix: want a folder"},
		"azblob://logs":                                         {"storage_account is missing"},
		"azblob://logs?storage_account=A":                       {"storage_account: want 3 to 24"},
		"azblob://logs?storage_account=acct1&sig=sesame":        {`unknown parameter "sig"`},
		"file://srv/www":                                        {"three slashes"},
		"file:srv/www":                                          {"begin with file://", "three slashes"},
		"file:///":                                              {"three slashes"},
		"file:///srv?prefix=a":                                  {"no parameters"},
		"s3://%zz?sesame":                                       {"it is no URL"},
	} {
		err := Check(bad)
		faults := config.Each(err)
		if len(faults) != len(want) {
			t.Errorf("%s: got %v, want %d faults", bad, err, len(want))
			continue
		}
		for i, f := range faults {
			if !strings.Contains(f.Error(), want[i]) && !strings.Contains(err.Error(), want[i]) {
				t.Errorf("%s: got %v, want %q", bad, f, want[i])
			}
		}
		if _, ok := Folder(bad); ok {
			t.Errorf("%s is a folder", bad)
		}
		if said := strings.ReplaceAll(err.Error(), `unknown parameter "sesame"`, ""); strings.Contains(said, "sesame") {
			t.Errorf("%s: what may be a secret is repeated: %v", bad, err)
		}
	}
	if err := CheckTarget("gs://logs?anonymous=true"); err == nil || !strings.Contains(err.Error(), "for reading") {
		t.Errorf("a target without credentials: %v", err)
	}
	if dir, ok := Folder("file:///srv/www/log/"); !ok || dir != "/srv/www/log" {
		t.Errorf("the folder is %q, %v", dir, ok)
	}
}

// What stands behind a URL in a library's error may be a secret; and an error is of one line.
func TestErrorsHoldNoSecrets(t *testing.T) {
	err := clean("tile/0/000", errors.New("Put \"https://a.example.net/logs/tile/0/000?sv=1&sig=sesame%3D\":\n dial tcp "+strings.Repeat("x", 2*maxFault)))
	if got := err.Error(); strings.Contains(got, "sesame") || strings.Contains(got, "\n") || len(got) > maxFault+100 || !strings.HasPrefix(got, `tile/0/000: Put "https://a.example.net/logs/tile/0/000?...": dial tcp x`) {
		t.Errorf("got %s", got)
	}
}

// Whatever is taken is taken again as it is understood, and nothing panics.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"s3://logs?region=x&prefix=a/", "azblob://$web?storage_account=acct", "file:///a/b", "gs://a:b@c?d=%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parse(s)
		if err != nil {
			return
		}
		if !Is(s) {
			t.Errorf("%q is taken, and is no store's", s)
		}
		if a.prefix != "" && (strings.HasPrefix(a.prefix, "/") || strings.Contains("/"+a.prefix, "/../") || !strings.HasSuffix(a.prefix, "/")) {
			t.Errorf("%q: prefix %q", s, a.prefix)
		}
	})
}
