package cashaddr

import (
	"strings"
	"testing"
)

// An address of the CashAddr specification, and the same key as an SLP address.
const (
	cashPayout = "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a"
	slpPayout  = "simpleledger:qpm2qsznhks23z7629mms6s4cwef74vcwvg3pncxyr"
)

func TestCheck(t *testing.T) {
	for _, good := range []string{
		cashPayout, slpPayout,
		"bitcoincash:qr95sy3j9xwd2ap32xkykttr4cvcu7as4y0qverfuy",
		"bitcoincash:ppm2qsznhks23z7629mms6s4cwef74vcwvn0h829pq",
	} {
		if err := Check(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
		prefix, payload, _ := strings.Cut(good, ":")
		for i := range payload {
			for _, c := range []byte("qp7") {
				bad := []byte(payload)
				if bad[i] == c {
					continue
				}
				bad[i] = c
				if Check(prefix+":"+string(bad)) == nil {
					t.Errorf("%s: character %d changed to %c: accepted", good, i, c)
				}
			}
		}
	}
	for _, bad := range []string{
		"", "qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", "simpleledger:", "bchtest:qpm2qsznhks23z7629mms6s4cwef74vcwvqcw003ap",
		strings.ToUpper(cashPayout), "simpleledger:" + strings.TrimPrefix(cashPayout, "bitcoincash:"), cashPayout + " ", "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu",
	} {
		if Check(bad) == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}
