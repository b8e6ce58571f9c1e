package alert

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// mostSingle is how many alerts of one kind are told one by one. Beyond it they are
	// one alert, until no more than leftSingle are left: the two differ, so that a
	// number that moves about does not change the form each minute.
	mostSingle = 10
	leftSingle = 5
	// mostListed is how many the summary of many names, maxListed how long each may be.
	mostListed = 20
	maxListed  = 200
)

// group puts many alerts of a kind into one. The one has the labels of the kind and no
// others, so that it stays the same alert whoever comes and goes. The result are the
// alerts as they are told, and the ids of those that are part of another now. The
// caller holds the lock.
func (k *Keeper) group(holding []Alert) (told []Alert, grouped map[string]bool) {
	grouped = map[string]bool{}
	kinds := map[string][]Alert{}
	for _, a := range holding {
		if a.Of == nil {
			told = append(told, a)
			continue
		}
		kind := Alert{Name: a.Name, Labels: a.Labels}.id()
		kinds[kind] = append(kinds[kind], a)
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		list := kinds[kind]
		one := list[0]
		most := mostSingle
		if known := k.alerts[kind]; known != nil && known.Ended.IsZero() {
			most = leftSingle
		}
		of := map[string]map[string]string{} // by id
		for i, a := range list {
			labels := maps.Clone(a.Labels)
			maps.Copy(labels, a.Of)
			list[i].Labels, list[i].Of = labels, nil
			of[list[i].id()] = a.Of
		}
		if len(list) <= most {
			told = append(told, list...)
			continue
		}
		slices.SortFunc(list, func(a, b Alert) int { return cmp.Compare(a.id(), b.id()) })
		one.Of, one.Count, one.Summary = nil, len(list), summary(list)
		for _, a := range list {
			grouped[a.id()] = true
			if len(one.Parts) < maxAlerts {
				one.Parts = append(one.Parts, of[a.id()])
			}
		}
		told = append(told, one)
	}
	return told, grouped
}

// summary counts alerts of one kind and names some.
func summary(list []Alert) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s: ", len(list), list[0].Many)
	for i, a := range list[:min(len(list), mostListed)] {
		if i > 0 {
			b.WriteString("; ")
		}
		s := a.Summary
		if len(s) > maxListed {
			s = strings.ToValidUTF8(s[:maxListed], "") + "…"
		}
		b.WriteString(s)
	}
	if more := len(list) - mostListed; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}
