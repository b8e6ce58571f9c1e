package bucket

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// schemes are those of the URLs that are taken, with their parameters.
var schemes = map[string][]string{
	"s3":     {"region", "endpoint", "use_path_style", "profile", "prefix", "anonymous"},
	"gs":     {"prefix", "anonymous"},
	"azblob": {"storage_account", "prefix", "anonymous"},
	"file":   nil,
}

// Is says whether an address is the URL of a store, and no other.
func Is(address string) bool {
	scheme, _, ok := strings.Cut(address, "://")
	_, known := schemes[scheme]
	return ok && known
}

// Folder is the folder that a file URL means.
func Folder(address string) (dir string, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "file" || Check(address) != nil {
		return "", false
	}
	return path.Clean(u.Path), true
}

const wanted = "want s3://NAME?region=REGION, gs://NAME, azblob://CONTAINER?storage_account=ACCOUNT or file:///FOLDER"

var (
	namePattern    = regexp.MustCompile(`^(\$web|[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])$`)
	prefixPattern  = regexp.MustCompile(`^[A-Za-z0-9_=.-]+(/[A-Za-z0-9_=.-]+)*/?$`)
	wordPattern    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	accountPattern = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
)

// Check says what is wrong with the URL of a store, each fault of it, and repeats nothing
// that may be a secret.
func Check(address string) error {
	_, err := parse(address)
	return err
}

// CheckTarget is [Check] of a store that is to be written to.
func CheckTarget(address string) error {
	u, err := parse(address)
	if err == nil && u.query.Has("anonymous") {
		err = errors.New("anonymous=true is for reading: nobody may write without credentials")
	}
	return err
}

// address is the URL of a store, taken apart.
type address struct {
	scheme, name string
	prefix       string     // empty, or with a slash at its end
	query        url.Values // without prefix
}

func parse(s string) (address, error) {
	u, err := url.Parse(s)
	if err != nil {
		return address{}, fmt.Errorf("it is no URL: %s", wanted)
	}
	allowed, known := schemes[u.Scheme]
	if !known {
		return address{}, fmt.Errorf("the scheme %q is none of a store: %s", u.Scheme, wanted)
	}
	var faults []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	want(u.User == nil, "it holds credentials: take them out of the URL; the environment holds them (docs/monitor.md)")
	want(strings.HasPrefix(s, u.Scheme+"://"), "want it to begin with %s://", u.Scheme)
	want(u.Fragment == "", "want nothing like #... in it")
	if u.Scheme == "file" {
		want(u.Host == "" && path.IsAbs(u.Path) && path.Clean(u.Path) != "/", "want a folder by its whole path, with three slashes: file:///srv/www/log")
		want(u.RawQuery == "", "want no parameters behind a folder")
		return address{scheme: u.Scheme}, errors.Join(faults...)
	}
	want(namePattern.MatchString(u.Host), "want the bucket's name after %s://: lower-case letters, digits, dots and dashes", u.Scheme)
	want(u.Path == "" || u.Path == "/", "a folder of the bucket is written as ?prefix=FOLDER/")
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		want(false, "want parameters such as ?region=REGION&prefix=FOLDER/")
		return address{}, errors.Join(faults...)
	}
	for _, key := range slices.Sorted(maps.Keys(q)) {
		switch {
		case !slices.Contains(allowed, key):
			want(false, "unknown parameter %q: %s has %s", key, u.Scheme, strings.Join(allowed, ", "))
		case len(q[key]) != 1 || q.Get(key) == "":
			want(false, "want %s once, with a value", key)
		default:
			err := parameters[key](q.Get(key))
			want(err == nil, "%s: %v", key, err)
		}
	}
	switch {
	case u.Scheme == "s3" && !q.Has("region") && !q.Has("endpoint"):
		want(false, "region is missing: write ?region=eu-central-1, or where the bucket is")
	case u.Scheme == "azblob" && !q.Has("storage_account"):
		want(false, "storage_account is missing: write ?storage_account=ACCOUNT")
	}
	a := address{u.Scheme, u.Host, q.Get("prefix"), q}
	if a.prefix != "" {
		a.prefix = strings.TrimSuffix(a.prefix, "/") + "/"
	}
	q.Del("prefix")
	return a, errors.Join(faults...)
}

// parameters check the values.
var parameters = map[string]func(string) error{
	"region":  matching(wordPattern, "a region such as eu-central-1, or auto"),
	"profile": matching(wordPattern, "the name of a profile in the shared credentials file"),
	"endpoint": func(s string) error {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
			return errors.New("want the provider's address without the bucket, such as https://s3.example.net")
		}
		return nil
	},
	"use_path_style": oneOf("true", "false"),
	"anonymous":      oneOf("true"),
	"prefix": func(s string) error {
		if !prefixPattern.MatchString(s) || len(s) > 200 || slices.ContainsFunc(strings.Split(s, "/"), func(part string) bool { return part == "." || part == ".." }) {
			return errors.New("want a folder such as monitor1/log/, without a slash before it")
		}
		return nil
	},
	"storage_account": matching(accountPattern, "3 to 24 lower-case letters and digits"),
}

func matching(p *regexp.Regexp, what string) func(string) error {
	return func(s string) error {
		if !p.MatchString(s) {
			return errors.New("want " + what)
		}
		return nil
	}
}

func oneOf(values ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(values, s) {
			return fmt.Errorf("want %s", strings.Join(values, " or "))
		}
		return nil
	}
}
