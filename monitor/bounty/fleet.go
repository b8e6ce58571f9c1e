package bounty

// Tally counts the votes of an hour. Those who are on the bench and in none of
// the three counts did not know.
type Tally struct {
	Bench int `json:"bench"` // n of rule R7: monitors that were due, answering or not
	// Of is how many they were chosen from (rule R21); absent: all were due.
	Of   int `json:"of,omitempty"`
	Up   int `json:"up"`
	Down int `json:"down"`
	Busy int `json:"busy"`
}

// Add counts a vote of a monitor that is on the bench.
func (t *Tally) Add(v Value) {
	switch v {
	case Up:
		t.Up++
	case Down:
		t.Down++
	case Busy:
		t.Busy++
	}
}

// Quorum is Q of rule R7.
func (t Tally) Quorum() int { return t.Bench/2 + 1 }

// Refused says whether most monitors did not come through.
func (t Tally) Refused() bool { return t.Busy+t.Down >= t.Quorum() }

// Fleet combines the votes of an hour (rule R7).
func Fleet(t Tally) Value {
	q := t.Quorum()
	switch {
	case t.Bench == 0:
		return Unknown
	case t.Up >= q:
		return Up
	case t.Down >= q:
		return Down
	case t.Up+t.Busy >= q:
		return Busy
	}
	return Unknown
}
