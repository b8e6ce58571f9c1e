package evidence

import (
	"slices"
	"strings"
	"testing"
)

func TestLookups(t *testing.T) {
	own := Lookup{Resolver: OwnResolver, IPv4: []string{"203.0.113.7"}}
	other := Lookup{Resolver: "1.1.1.1#cloudflare-dns.com", Class: NameNotFound}
	change := func(l Lookup, f func(*Lookup)) Lookup { f(&l); return l }
	for what, test := range map[string]struct {
		facts Facts
		ok    bool
	}{
		"none":                   {Facts{}, true},
		"two":                    {Facts{LookupRetries: 3, Lookups: []Lookup{own, other}}, true},
		"no answer":              {Facts{Lookups: []Lookup{own, change(other, func(l *Lookup) { l.Class = Resolver })}}, true},
		"nine":                   {Facts{Lookups: append([]Lookup{own}, slices.Repeat([]Lookup{other}, 8)...)}, true},
		"ten":                    {Facts{Lookups: append([]Lookup{own}, slices.Repeat([]Lookup{other}, 9)...)}, false},
		"fewer than no retries":  {Facts{LookupRetries: -1}, false},
		"own is not first":       {Facts{Lookups: []Lookup{other, own}}, false},
		"own twice":              {Facts{Lookups: []Lookup{own, own}}, false},
		"nobody":                 {Facts{Lookups: []Lookup{own, change(other, func(l *Lookup) { l.Resolver = "" })}}, false},
		"a long name":            {Facts{Lookups: []Lookup{own, change(other, func(l *Lookup) { l.Resolver = strings.Repeat("x", 257) })}}, false},
		"nothing said":           {Facts{Lookups: []Lookup{change(own, func(l *Lookup) { l.IPv4 = nil })}}, false},
		"an address and a class": {Facts{Lookups: []Lookup{change(own, func(l *Lookup) { l.Class = NameLookup })}}, false},
		"another class":          {Facts{Lookups: []Lookup{own, change(other, func(l *Lookup) { l.Class = Refused })}}, false},
		"no address":             {Facts{Lookups: []Lookup{change(own, func(l *Lookup) { l.IPv4 = []string{"relay"} })}}, false},
		"an IPv6 address":        {Facts{Lookups: []Lookup{change(own, func(l *Lookup) { l.IPv4 = []string{"::1"} })}}, false},
		"too many addresses":     {Facts{Lookups: []Lookup{change(own, func(l *Lookup) { l.IPv4 = slices.Repeat(l.IPv4, 17) })}}, false},
	} {
		if err := checkLookups(test.facts); (err == nil) != test.ok {
			t.Errorf("%s: got %v, want ok: %v", what, err, test.ok)
		}
	}
}
