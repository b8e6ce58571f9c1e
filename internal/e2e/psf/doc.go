// Package psf tries the relay with the network's own software: helia-coord 2.0.2
// as npm publishes it, in a network namespace that has nothing but loopback.
package psf
