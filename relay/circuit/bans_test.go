package circuit

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func TestBanListFaults(t *testing.T) {
	dir := t.TempDir()
	for _, bad := range []string{"", "nobody", "10.0.0.0/33", "fe80::1%eth0"} {
		if err := Ban(dir, bad); err == nil {
			t.Errorf("%q was banned", bad)
		}
	}
	relaytest.Must(t, Ban(dir, "203.0.113.7/24"))
	relaytest.Must(t, Ban(dir, "203.0.113.0/24"))
	relaytest.Must(t, Ban(dir, "2001:db8::1"))
	list, err := ReadBans(dir)
	relaytest.Must(t, err)
	if got := fmt.Sprint(list.Entries()); got != "[203.0.113.0/24 2001:db8::1/128]" {
		t.Errorf("banned %s", got)
	}
	if err := Unban(dir, "198.51.100.1"); err == nil {
		t.Error("unbanned what was not banned")
	}
	if _, err := OpenBans(filepath.Join(dir, "nowhere")); err != nil {
		t.Errorf("no list: %v", err)
	}
}

func FuzzBanList(f *testing.F) {
	f.Add([]byte("# none\n"))
	f.Add([]byte("12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9\n203.0.113.0/24 # a neighbour\n2001:db8::1\n"))
	f.Add([]byte("\x00\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseBans(data)
		if err != nil {
			return
		}
		again, err := parseBans([]byte(strings.Join(list.Entries(), "\n")))
		if err != nil || !reflect.DeepEqual(list.Entries(), again.Entries()) {
			t.Errorf("%v reads back as %v, %v", list.Entries(), again, err)
		}
	})
}
