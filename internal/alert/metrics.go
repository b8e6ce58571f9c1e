package alert

import "github.com/prometheus/client_golang/prometheus"

// collector shows a keeper under /metrics.
type collector struct {
	keeper                                            func() (k *Keeper, fault string)
	off, holding, waiting, outside, failures, success *prometheus.Desc
}

// Metrics is what /metrics shows of the keeper that there is at the time. Without one nobody
// is to be told, or the fault says why nobody can be. The names begin with the program's.
func Metrics(program string, keeper func() (k *Keeper, fault string)) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(program+"_alerts_"+name, help, labels, nil)
	}
	return &collector{
		keeper:   keeper,
		off:      desc("off", "1 if there are receivers and none can be told of any alert: the log says why; else 0."),
		holding:  desc("holding", "Alerts that hold."),
		waiting:  desc("waiting", "Alerts, and their ends, that some receiver was not told of yet. What waits for the end of the quiet hours or for the digest is not counted."),
		outside:  desc("without_room", "Alerts that hold and are told to nobody, because there are too many."),
		failures: desc("send_failures", "Messages that a receiver did not take since the last one that it took.", "to"),
		success:  desc("last_sent_timestamp_seconds", "When a receiver took a message for the last time, as Unix time; 0: not since the program's start.", "to"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.off, c.holding, c.waiting, c.outside, c.failures, c.success} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	k, fault := c.keeper()
	off := 0.0
	if fault != "" {
		off = 1
	}
	gauge(c.off, off)
	if k == nil {
		return
	}
	gauge(c.holding, float64(len(k.Holding())))
	gauge(c.waiting, float64(k.Waiting()))
	gauge(c.outside, float64(k.Outside()))
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, to := range k.to {
		gauge(c.failures, float64(to.failures), to.name)
		last := 0.0
		if !to.last.IsZero() {
			last = float64(to.last.Unix())
		}
		gauge(c.success, last, to.name)
	}
}
