// Package site is the committee's site: what every relay's month came to, the evidence
// behind it, and what the committee decided. It draws what a [committee.Reader] and the log
// of decisions tell, and judges nothing.
//
// There are two ways to show it, with the same files under the same names. Links are
// relative, so that they may lie below any path.
//
//	h, err := site.New(reader, site.Options{
//		Name:      "committee.example.org",
//		Bundles:   "bundles/",
//		Decisions: func() (*decision.Log, error) { return decision.Read("decisions", key) },
//		Log:       log,
//	}) // an [http.Handler]; serve it by listen.Server, on a listener of package listen
//
//	err = site.Export(ctx, reader, options, "public") // for any web server or bucket
//
// # Files
//
//	index.html                       the newest months
//	feed.atom                        verdicts that are final, and decisions (RFC 4287)
//	YYYY-MM/index.html, page-2.html  a month's relays, 100 on a page; the first also has
//	                                 the monitors
//	YYYY-MM/table.csv, table.json    the same, all relays in one file
//	YYYY-MM/relays/ID.html           a relay's month
//	YYYY-MM/relays/ID.json           its verdict: the bytes of a bundle's report.json
//	YYYY-MM/relays/ID.svg            a badge
//	YYYY-MM/search.html?q=WORDS      relays by operator, domain or peer ID; not in an export
//	style.css, icon.svg
//
// # Bounds
//
// A month has up to 50,000 relays; one with more is not shown. A page has 100 of them, a
// search finds 100, the front page sums up six months and names 120, the feed has 200
// entries. What was read is shown for a minute. Texts of others are cut, and lose what is
// not printable.
//
// # table.json
//
//	{"version":1,"month":"2026-11","decisions":true,"relays":[...]}
//
// Each relay has the members of [committee.Row] and
//
//	standing       ELIGIBLE, REVIEW, NOT_ELIGIBLE or LAB: final, but for NOT_ELIGIBLE;
//	               POSSIBLE: it may still become ELIGIBLE; OUT_OF_REACH: a lab's month that
//	               cannot reach the hours
//	decision       outcome (paid or refused), at, hash (of the leaf), txid and payout or
//	               refuse; absent: none stands
//	open_appeals   how many appeals no decision has answered
//
// decisions says whether there is a log of decisions. Without one the last two members of
// a relay say nothing. A member that is new does not change the version.
//
// # table.csv
//
// The first row names the columns, which are members of table.json in one row; new ones come
// last. decision is paid, refused or open; without a log of decisions it is empty, and so is
// open_appeals. A text that a spreadsheet would take for a formula has an apostrophe before
// it. Times are UTC.
package site
