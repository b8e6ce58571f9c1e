package browser

import (
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func TestRung(t *testing.T) {
	const version = "Chrome/1.2"
	relay := func(class evidence.Class, detail string) Relay {
		return Relay{Steps: []Step{
			{Name: "dial", Outcome: evidence.OK, DurationMS: 1.5},
			{Name: "webtransport", Optional: true, Outcome: evidence.Fail, DurationMS: 100},
			{Name: "reserve", Outcome: evidence.Fail, Class: class, Detail: detail, DurationMS: 2},
		}}
	}
	for class, want := range map[evidence.Class]evidence.Outcome{
		evidence.ReserveDenied:  evidence.Fail,
		evidence.LimitTooSmall:  evidence.Fail,
		evidence.CertUntrusted:  evidence.Fail,
		evidence.ReserveRefused: evidence.Busy,
		evidence.ReserveLimit:   evidence.Busy,
		evidence.CircuitBusy:    evidence.Busy,
		evidence.OwnFault:       evidence.Blind,
	} {
		r := relay(class, "why")
		want := evidence.Rung{Name: RungName, Outcome: want, Class: class, Detail: "Chrome/1.2, step reserve: why", DurationUS: 3500}
		if got := r.Rung(version); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
	// Whether a name exists is not for the browser's own resolver to say.
	unknown := relay(evidence.NameLookup, "net::ERR_NAME_NOT_RESOLVED")
	if got := unknown.Rung(version); got.Outcome != evidence.Blind || got.Class != evidence.Resolver {
		t.Errorf("a name that is not resolved: got %+v, want blind (resolver)", got)
	}
	long := relay(evidence.ReserveFailed, strings.Repeat("é", 300))
	if got := long.Rung(version); len(got.Detail) > maxDetail || !strings.HasSuffix(got.Detail, "é") {
		t.Errorf("detail of %d bytes: %q", len(got.Detail), got.Detail)
	}
	// A page that ends without a failed step and without success was not at work.
	none := Relay{}
	if got := none.Rung(version); got.Outcome != evidence.Blind || got.Class != evidence.OwnFault {
		t.Errorf("got %+v", got)
	}
}

func TestRefine(t *testing.T) {
	var console reasons
	for _, line := range []string{
		"WebSocket connection to 'wss://a.test/' failed: Error in connection establishment: net::ERR_CERT_DATE_INVALID",
		"WebSocket connection to 'wss://b.test:4443/' failed: Error in connection establishment: net::ERR_SOMETHING_NEW",
		"Failed to load resource: net::ERR_CONNECTION_REFUSED",
		"WebSocket connection to 'wss://%zz/' failed: net::ERR_FAILED",
	} {
		console.note(line)
	}
	silent := func(host string) Step {
		return Step{Class: evidence.ConnectFailed, Detail: "the browser could not open wss://" + host + "/ and tells pages no reason", Advice: "many things"}
	}
	other := Step{Class: evidence.HandshakeFailed, Detail: "wss://a.test/"}
	r := Relay{Steps: []Step{silent("a.test"), silent("b.test:4443"), silent("b.test"), other}}
	console.refine(&r)
	for i, want := range []Step{
		{Class: evidence.CertExpired, Detail: "net::ERR_CERT_DATE_INVALID at a.test", Advice: evidence.CertExpired.Advice()},
		{Class: evidence.ConnectFailed, Detail: "net::ERR_SOMETHING_NEW at b.test:4443", Advice: "many things"},
		silent("b.test"),
		other,
	} {
		if r.Steps[i] != want {
			t.Errorf("step %d: %+v\nwant %+v", i, r.Steps[i], want)
		}
	}
}

// The words that Chromium's errors are turned into are the evidence log's.
func TestClassesHaveAdvice(t *testing.T) {
	for reason, class := range classes {
		if class.Advice() == "" {
			t.Errorf("%s: class %q is not known", reason, class)
		}
	}
}
