// Package deb builds the Debian packages and does with them what an operator does:
// installs, configures, upgrades, removes and purges, in a throw-away root.
package deb
