// Package e2e tests the house as a whole: relay, monitor, evidence and audit
// together, in one process and as the built programs.
package e2e
