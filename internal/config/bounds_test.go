package config

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// full repeats what a function writes until the file has the greatest size there is.
func full(write func(b *strings.Builder, i int)) string {
	var b strings.Builder
	for i := 0; ; i++ {
		before := b.Len()
		write(&b, i)
		if b.Len() > MaxBytes {
			return b.String()[:before]
		}
	}
}

func repeat(s string) string { return full(func(b *strings.Builder, _ int) { b.WriteString(s) }) }

// hostile are files that nobody writes, each as large as may be.
var hostile = map[string]string{
	"lists":             repeat("["),
	"maps":              repeat("{"),
	"maps with keys":    repeat("{a: "),
	"closed":            repeat("]"),
	"commas":            "[" + repeat(",")[1:],
	"items":             "x: [" + repeat("a,")[10:] + "]",
	"blocks in a line":  repeat("- "),
	"blocks":            repeat("-\n"),
	"explicit keys":     repeat("? "),
	"explicit lines":    repeat("? a\n"),
	"values":            repeat(": "),
	"chain":             repeat("a: "),
	"chain in a map":    "{" + repeat("a: ")[1:],
	"entries in a list": "[" + repeat("- ")[1:],
	"anchors":           repeat("&a "),
	"anchor lines":      repeat("&a\n"),
	"tags":              repeat("!a "),
	"aliases":           repeat("*a "),
	"merges":            repeat("<<: "),
	"directives":        repeat("%a\n"),
	"documents":         repeat("---\n"),
	"comments":          repeat("#\n"),
	"comments after":    repeat("a #\n"),
	"quotes":            repeat("\"\n"),
	"single quotes":     "'" + repeat("''")[1:],
	"escapes":           "\"" + repeat("\\n")[2:] + "\"",
	"literals":          repeat("|\n"),
	"a literal":         "name: |\n" + repeat(" a\n")[8:],
	"folded":            "name: >\n" + repeat(" a\n")[8:],
	"many lines":        "name: b\n" + repeat(" c\n")[8:],
	"reserved":          repeat("@`"),
	"blanks":            repeat(" "),
	"tabs":              repeat("\t"),
	"carriage returns":  repeat("\r"),
	"a word":            repeat("a"),
	"a number":          "port: " + repeat("1")[6:],
	"zeros":             "port: " + repeat("0")[6:],
	"one list":          "peers:\n" + repeat("- a\n")[8:],
	"list of maps":      "rows:\n" + repeat("- tcp: a\n")[8:],
	"list of wrong":     "rows:\n" + repeat("- a: a\n")[8:],
	"keys":              full(func(b *strings.Builder, i int) { fmt.Fprintf(b, "k%d: a\n", i) }),
	"keys in a map":     "{" + full(func(b *strings.Builder, i int) { fmt.Fprintf(b, "k%d: a,", i) })[1:],
	"keys in many maps": full(func(b *strings.Builder, i int) {
		if i%900 == 0 {
			fmt.Fprintf(b, "m%d:\n", i)
		}
		fmt.Fprintf(b, " k%d: a\n", i)
	}),
	"keys out of column": full(func(b *strings.Builder, i int) { fmt.Fprintf(b, "%sk%d: a\n", strings.Repeat(" ", 2-i%3), i) }),
	"explicit and keys":  full(func(b *strings.Builder, i int) { fmt.Fprintf(b, "? k%d\n: a\n", i) }),
	"deeper and deeper":  full(func(b *strings.Builder, i int) { b.WriteString(strings.Repeat(" ", i) + "a:\n") }),
	"lists ever deeper":  full(func(b *strings.Builder, i int) { b.WriteString(strings.Repeat(" ", i) + "-\n") }),
	"just deep enough":   "other: [" + repeat(strings.Repeat("[", 29) + "a" + strings.Repeat("]", 29) + ",")[10:] + "]",
	"deep maps":          "other: [" + repeat(strings.Repeat("{a: ", 29) + "a" + strings.Repeat("}", 29) + ",")[10:] + "]",
	"deep blocks":        "other:\n" + repeat(" " + strings.Repeat("- ", 29) + "a\n")[10:],
	"a long key":         repeat("a")[2:] + ": ",
	"wrong numbers":      "by_addr: {" + repeat("192.0.2.1: 0x1,")[10:] + "}",
	"quoted brackets":    "name: \"" + repeat("[")[10:] + "\"",
}

func init() {
	// What is just within the other bounds goes through all of it.
	hostile["most items"] = "peers: [" + strings.Repeat("a,", maxTokens/2-4) + "]"
	hostile["most lines"] = "peers:\n" + strings.Repeat("- a\n", maxTokens/2-2)
	hostile["most maps"] = "rows: [" + strings.Repeat("{a},", maxTokens/4-2) + "]"
	hostile["most rows"] = "rows:\n" + strings.Repeat("- tcp: a\n", maxTokens/4-2)
	hostile["most depth"] = "other: [" + strings.Repeat(strings.Repeat("[", 29)+"a"+strings.Repeat("]", 29)+",", maxTokens/60-1) + "]"
	hostile["most deep maps"] = "other: [" + strings.Repeat(strings.Repeat("{a: ", 29)+"a"+strings.Repeat("}", 29)+",", maxTokens/118-1) + "]"
	var b strings.Builder
	b.WriteString("other:\n")
	for i := range maxTokens / 3 / (maxKeys + 1) {
		fmt.Fprintf(&b, "  m%d:\n", i)
		for k := range maxKeys {
			fmt.Fprintf(&b, "    k%d: a\n", k)
		}
	}
	hostile["most maps of keys"] = b.String()
}

// What a file costs is bounded by its length, whatever stands in it: 200 kB of brackets
// took 22 GB. All is counted that is ever allocated, most of which is free again at once.
func TestHostileFiles(t *testing.T) {
	const most = 300 << 20
	for name, file := range hostile {
		t.Run(name, func(t *testing.T) {
			if len(file) > MaxBytes || len(file) < MaxBytes*9/10 && !strings.HasPrefix(name, "most ") {
				t.Fatalf("%d bytes", len(file))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var s sample
			err := Decode("f", []byte(file), &s)
			runtime.ReadMemStats(&after)
			cost := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d MB: %.100s", cost>>20, fmt.Sprint(err))
			if cost > most {
				t.Errorf("%d MB were allocated, at most %d are wanted", cost>>20, most>>20)
			}
			if err != nil && len(err.Error()) > 64<<10 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}
