// Package repo holds the rules of the repository as tests: who may import whom,
// what every package documents, and what must never be committed. A rule that a
// test enforces needs no reviewer.
package repo
