package trend

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/relay/config"
)

// Period is a time of which there are pictures.
type Period struct {
	Title  string
	Axis   []string // labels of the axis of time
	Charts []Chart
}

// Chart is one picture: a step is one wide, and the upper end of its scale is [Height].
type Chart struct {
	Title, Sum string
	Words      string // says it to those who do not see it
	Top        string // label of the upper end
	Steps      int
	Area, Gaps string // SVG paths: what was counted, and where nothing was
}

// Height is that of each picture.
const Height = 100

// unknown is the value of a step of which there is no sample.
const unknown = -1

// draw makes the pictures of a ring as of now.
func (k *Keeper) draw(title string, axis []string, r *ring, now time.Time) Period {
	p := Period{Title: title, Axis: axis}
	for _, c := range []struct {
		field int
		title string
		now   int
	}{
		{reservations, "Reservations", k.now.Reservations},
		{circuits, "Circuits", k.now.Circuits},
		{connections, "Connections", k.now.Connections},
	} {
		p.Charts = append(p.Charts, r.chart(c.field, title, c.title, now, fmt.Sprintf("%d now", c.now), func(n int64) string { return strconv.FormatInt(n, 10) }))
	}
	total := int64(0)
	for _, n := range r.values(carried, now) {
		total += max(0, n)
	}
	size := func(n int64) string { return config.Bytes(n).Short() }
	long := "5 minutes"
	if r.step >= time.Hour {
		long = fmt.Sprintf("%d hours", r.step/time.Hour)
	}
	p.Charts = append(p.Charts, r.chart(carried, title, "Carried in "+long, now, size(total)+" in all", size))
	return p
}

// values are those of a field in each step up to now. The step of now is none of bytes: they
// are still counted, and it would look as if they had become fewer.
func (r *ring) values(field int, now time.Time) []int64 {
	first := r.stepOf(now) - int64(r.room) + 1
	values := slices.Repeat([]int64{unknown}, r.room)
	if field == carried {
		values = values[:r.room-1]
	}
	for _, s := range r.samples {
		if i := s[at] - first; i >= 0 && i < int64(len(values)) {
			values[i] = s[field]
		}
	}
	return values
}

// chart draws one field.
func (r *ring) chart(field int, period, title string, now time.Time, sum string, word func(int64) string) Chart {
	values := r.values(field, now)
	c := Chart{Title: title, Sum: sum, Steps: r.room}
	most, when, gaps := int64(unknown), 0, 0
	for i, v := range values {
		if v == unknown {
			gaps++
		}
		if v >= most {
			most, when = v, i
		}
	}
	at := "" // when it was highest
	if most > 0 {
		start := time.Unix((r.stepOf(now)-int64(r.room-1-when))*int64(r.step/time.Second), 0).UTC()
		at = ", at " + start.Format("2006-01-02 15:04 MST")
	}
	if most != unknown {
		c.Sum += ", at most " + word(most)
	}
	c.Words = title + ", " + strings.ToLower(period) + ": " + c.Sum + at
	if lost := time.Duration(gaps) * r.step; lost > 0 {
		c.Words += fmt.Sprintf("; nothing is known of %s hours", strconv.FormatFloat(math.Round(lost.Hours()*10)/10, 'f', -1, 64))
	}
	top := nice(most)
	c.Top = word(top)
	c.Area, c.Gaps = paths(values, top)
	return c
}

// nice is the least of 1, 2, 5, 10, 20, 50, ... that is not below n: the upper end of a scale.
func nice(n int64) int64 {
	for unit := int64(1); unit <= math.MaxInt64/10; unit *= 10 {
		for _, m := range []int64{1, 2, 5} {
			if m*unit >= n {
				return m * unit
			}
		}
	}
	return n
}

// paths draws runs of steps that have a value as areas, and all others as gaps. What is
// not 0 can be told from 0.
func paths(values []int64, top int64) (area, gaps string) {
	var a, g strings.Builder
	for i := 0; i < len(values); {
		j := i
		if values[i] == unknown {
			for ; j < len(values) && values[j] == unknown; j++ {
			}
			fmt.Fprintf(&g, "M%d 0H%dV%dH%dz", i, j, Height, i)
			i = j
			continue
		}
		fmt.Fprintf(&a, "M%d %d", i, Height)
		for ; j < len(values) && values[j] != unknown; j++ {
			if j > i && values[j] == values[j-1] {
				continue
			}
			high := (values[j]*Height + top - 1) / top // not 0 while the value is not
			if j > i {
				fmt.Fprintf(&a, "H%d", j)
			}
			fmt.Fprintf(&a, "V%d", Height-high)
		}
		fmt.Fprintf(&a, "H%dV%dz", j, Height)
		i = j
	}
	return a.String(), g.String()
}
