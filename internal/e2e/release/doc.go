// Package release tests the making of a release as a whole: built twice from one
// commit, published, and installed from by a real apt.
package release
