package evidence

// Class is the reason of an outcome other than ok, in one stable word. The
// words are part of the format: a word is never given another meaning.
type Class string
