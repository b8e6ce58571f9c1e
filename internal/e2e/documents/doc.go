// Package documents holds the documents for people to the programs: each command that they
// show is one that the programs take, and what they say of a message is what the code says.
package documents
