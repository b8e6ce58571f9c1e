package provider

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// tree is metadata as EC2 lists them: a folder's names, one a line, those of folders with
// a slash behind. A name such as "0=relay" is a folder that is found under its number.
type tree map[string]any

func (t tree) find(path string) (text string, ok bool) {
	name, rest, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	if name == "" {
		var names []string
		for n, v := range t {
			if _, folder := v.(tree); folder && !strings.Contains(n, "=") {
				n += "/"
			}
			names = append(names, n)
		}
		slices.Sort(names)
		return strings.Join(names, "\n"), true
	}
	for n, v := range t {
		if number, _, numbered := strings.Cut(n, "="); n != name && (!numbered || number != name) {
			continue
		}
		switch v := v.(type) {
		case tree:
			return v.find(rest)
		case string:
			return v, rest == ""
		}
	}
	return "", false
}

func (t tree) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, ok := t.find(r.URL.Path)
	if !ok || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	reply(w, text)
}

// withHeader answers only who says this header.
func withHeader(name, value string, status int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(name) != value {
			http.Error(w, name+" is missing or wrong", status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withToken answers only who has got a token by PUT at path, where the header ttl is asked
// for.
func withToken(path, ttl, use string, next http.Handler) http.Handler {
	const token = "AQAEAFakeTokenOfThisTest=="
	checked := withHeader(use, token, http.StatusUnauthorized, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != path:
			checked.ServeHTTP(w, r)
		case r.Method != http.MethodPut:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.Header.Get(ttl) == "":
			http.Error(w, ttl+" is missing", http.StatusBadRequest)
		default:
			w.Header().Set(ttl, r.Header.Get(ttl))
			reply(w, token)
		}
	})
}

// texts answers these paths, also with a slash behind.
func texts(paths map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := paths[r.URL.Path]
		if !ok {
			text, ok = paths[strings.TrimSuffix(r.URL.Path, "/")]
		}
		if !ok || r.Method != http.MethodGet {
			http.NotFound(w, r)
			return
		}
		reply(w, text)
	})
}

type object = map[string]any

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // made of strings and numbers only
	}
	return string(b)
}
