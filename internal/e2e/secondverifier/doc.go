// Package secondverifier compares this project's judgement of evidence with that of a
// second program in another language, docs/verifier, which shares no code with it. There
// is nothing in it but tests.
package secondverifier
