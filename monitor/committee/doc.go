// Package committee keeps what a committee must know of all relays at once: the months'
// verdicts, made from the logs of all monitors.
package committee
