package provider

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// Each network can be made, and each guest's data be served.
func TestKinds(t *testing.T) {
	for _, k := range Kinds {
		t.Run(k.Name, func(t *testing.T) {
			if !relaytest.Isolated(t) {
				return
			}
			c := k.Start(t, "relay.test")
			if err := c.Serve(Guest{Key: "ssh-ed25519 AAAA", UserData: "#cloud-config\n"}); err != nil {
				t.Fatal(err)
			}
			if k.Lan.Public.IsValid() {
				c.Move(k.Lan.Public.Next())
			}
		})
	}
}

// Metadata are listed as EC2 lists them.
func TestTree(t *testing.T) {
	root := tree{"latest": tree{"meta-data": tree{"mac": "m", "public-keys": tree{"0=relay": tree{"openssh-key": "k"}}}}}
	for path, want := range map[string]string{
		"/latest":                                     "meta-data/",
		"/latest/meta-data/":                          "mac\npublic-keys/",
		"/latest/meta-data/mac":                       "m",
		"/latest/meta-data/public-keys/":              "0=relay",
		"/latest/meta-data/public-keys/0/":            "openssh-key",
		"/latest/meta-data/public-keys/0/openssh-key": "k",
	} {
		if got, ok := root.find(path); !ok || got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"/1.0", "/latest/meta-data/mac/more", "/latest/meta-data/public-keys/1/openssh-key"} {
		if got, ok := root.find(path); ok {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// Without the token there is nothing.
func TestToken(t *testing.T) {
	h := withToken("/token", "Ttl", "Token", texts(map[string]string{"/id": "7"}))
	ask := func(method, path string, header ...string) (int, string) {
		r := httptest.NewRequest(method, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if code, _ := ask(http.MethodGet, "/id"); code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", code)
	}
	if code, _ := ask(http.MethodPut, "/token"); code != http.StatusBadRequest {
		t.Errorf("a token for no time: %d", code)
	}
	_, token := ask(http.MethodPut, "/token", "Ttl", "60")
	if code, text := ask(http.MethodGet, "/id", "Token", token); code != http.StatusOK || text != "7" {
		t.Errorf("with a token: %d %q", code, text)
	}
}
