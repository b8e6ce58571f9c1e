package site

import (
	"cmp"
	"context"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

const (
	mostEntries = 200
	// feedMonths are those whose verdicts are in the feed; decisions are of any month.
	feedMonths = 3
)

type feedXML struct {
	XMLName xml.Name   `xml:"http://www.w3.org/2005/Atom feed"`
	Title   string     `xml:"title"`
	ID      string     `xml:"id"`
	Updated string     `xml:"updated"`
	Author  string     `xml:"author>name"`
	Links   []linkXML  `xml:"link"`
	Entries []entryXML `xml:"entry"`
}

type entryXML struct {
	Title   string  `xml:"title"`
	ID      string  `xml:"id"`
	Updated string  `xml:"updated"`
	Link    linkXML `xml:"link"`
	Summary string  `xml:"summary"`
}

type linkXML struct {
	Rel  string `xml:"rel,attr,omitempty"`
	Href string `xml:"href,attr"`
}

// tag names something of a month for good (RFC 4151).
func (s *site) tag(m evidence.Month, kind, name string) string {
	return fmt.Sprintf("tag:%s,%s-01:%s:%s", s.Name, m, kind, name)
}

// feed tells of verdicts that are final, and of decisions. Its times are those of the
// evidence and of the log.
func (s *site) feed(ctx context.Context) ([]byte, error) {
	end, err := s.begin(ctx)
	defer end()
	if err != nil {
		return nil, err
	}
	var told []entryXML
	recent := map[evidence.Month]*month{}
	for _, m := range s.months[:min(feedMonths, len(s.months))] {
		t, err := s.table(ctx, m)
		if err != nil {
			return nil, err
		}
		recent[m] = t
		for _, r := range t.Rows {
			if !r.Final {
				continue
			}
			told = append(told, entryXML{
				Title: fmt.Sprintf("%s, %s (%s): %s", m, r.Operator, r.Name(), r.Headline), ID: s.tag(m, "verdict", r.Relay),
				Updated: stamp(r.AsOf), Link: s.link(t, m, r.Relay),
				Summary: fmt.Sprintf("The verdict is final. Of %d hours %d are up, %d down and %d unknown. %s", r.Hours.Total, r.Hours.Up, r.Hours.Down, r.Hours.Unknown, r.Forecast()),
			})
		}
		told = latest(told)
	}
	if s.log != nil {
		for _, d := range s.log.Months() {
			for _, made := range d.Decisions {
				what := "refused"
				if made.Pay != nil {
					what = "paid"
				}
				why := ""
				if made.Why != "" {
					why = ". Why: " + made.Why
				}
				told = append(told, entryXML{
					Title: fmt.Sprintf("%s, relay %s: %s", d.Month, short(d.Relay), what), ID: s.tag(d.Month, "decision", made.Hash),
					Updated: stamp(made.At), Link: s.link(recent[d.Month], d.Month, d.Relay),
					Summary: plain(fmt.Sprintf("Entry %d of the committee's log: %s%s", made.Index, strings.TrimSuffix(made.Words(), "."), why), 2*mostText),
				})
			}
		}
		told = latest(told)
	}
	f := feedXML{
		Title: "Verdicts and decisions of " + s.Name, ID: fmt.Sprintf("tag:%s,2026:feed", s.Name), Updated: time.Unix(0, 0).UTC().Format(time.RFC3339),
		Author: s.Name, Links: []linkXML{{Rel: "alternate", Href: s.URL + "index.html"}}, Entries: told,
	}
	if s.URL != "" {
		f.Links = append(f.Links, linkXML{Rel: "self", Href: s.URL + "feed.atom"})
	}
	if len(told) > 0 {
		f.Updated = told[0].Updated
	}
	b, err := xml.MarshalIndent(f, "", " ")
	return append([]byte(xml.Header), append(b, '\n')...), err
}

// link leads to a relay's month, or to the month if the relay is not known to have a page.
func (s *site) link(t *month, m evidence.Month, relay string) linkXML {
	if t != nil && t.byID[relay] != nil && isID(relay) {
		return linkXML{Href: s.URL + m.String() + "/relays/" + relay + ".html"}
	}
	return linkXML{Href: s.URL + m.String() + "/index.html"}
}

// latest are the entries that the feed has room for.
func latest(list []entryXML) []entryXML {
	slices.SortFunc(list, func(a, b entryXML) int {
		return cmp.Or(strings.Compare(b.Updated, a.Updated), strings.Compare(a.ID, b.ID))
	})
	return list[:min(mostEntries, len(list))]
}
