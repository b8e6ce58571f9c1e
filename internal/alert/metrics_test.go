package alert

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// shown are the numbers of a keeper, or of none for a fault, such as "relayd_alerts_holding 1".
func shown(t *testing.T, k *Keeper, fault string) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(Metrics("relayd", func() (*Keeper, string) { return k, fault }))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.Metric {
			b.WriteString(f.GetName())
			for _, l := range m.Label {
				fmt.Fprintf(&b, "{%s=%s}", l.GetName(), l.GetValue())
			}
			fmt.Fprintf(&b, " %.0f\n", m.Gauge.GetValue())
		}
	}
	return b.String()
}

// A receiver that fails shows in the metrics, until it takes a message.
func TestMetrics(t *testing.T) {
	if got := shown(t, nil, ""); got != "relayd_alerts_off 0\n" {
		t.Errorf("got %s, want nothing else where nobody is to be told", got)
	}
	if got := shown(t, nil, "the state cannot be read"); got != "relayd_alerts_off 1\n" {
		t.Errorf("got %s, want that alerts are off", got)
	}
	synctest.Test(t, func(t *testing.T) {
		gone, well := &inbox{name: "gone", fault: errors.New("503")}, &inbox{name: "well"}
		k, stop := start(t, filepath.Join(t.TempDir(), "alerts.json"), gone, well)
		defer stop()
		k.Set(time.Now(), alerts("down"))
		time.Sleep(time.Minute)
		n := len(gone.tried())
		want := fmt.Sprintf(`relayd_alerts_holding 1
relayd_alerts_last_sent_timestamp_seconds{to=gone} 0
relayd_alerts_last_sent_timestamp_seconds{to=well} 946684800
relayd_alerts_off 0
relayd_alerts_send_failures{to=gone} %d
relayd_alerts_send_failures{to=well} 0
relayd_alerts_waiting 1
relayd_alerts_without_room 0
`, n)
		if got := shown(t, k, ""); got != want || n < 2 {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		gone.recover()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if got := shown(t, k, ""); !strings.Contains(got, "send_failures{to=gone} 0\n") || !strings.Contains(got, "alerts_waiting 0\n") {
			t.Errorf("got\n%s\nwant that all is sent", got)
		}
	})
}
