package relaytest

import "time"

// Day reads a time such as 2026-10-05 09:00, in UTC.
func Day(text string) time.Time {
	at, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return at
}
