package archive

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Paths for the role search, which copies the records to the log of the archive, and computes the
// map of their content (spec/archive/v1).
const (
	PathRecords = "/archive/records"  // GET ?after=NUMBER: the answer is a RecordList
	PathContent = "/archive/content/" // GET sha256:HEX: the content
)

// RecordList has records as entries of the archive's log, in order, without a gap.
type RecordList struct {
	Entries [][]byte `json:"entries"`
}

// maxRecords is the limit of the records of a RecordList.
const maxRecords = 1000

// place is a place in the journal.
type place struct{ number, offset int64 } // after the record with the number

// Records returns the records after a number, at most maxRecords of them. The error matches
// errShort if the archive has fewer records than this number.
func (a *Archive) Records(after int64) (RecordList, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := RecordList{Entries: [][]byte{}}
	if after > a.index.number {
		return list, fmt.Errorf("%w: it has %d, and was asked for those after %d", errShort, a.index.number, after)
	}
	if after < a.read.number {
		a.read = place{}
	}
	err := a.journal.each(a.read.offset, func(r *record, next int64) error {
		if r.Number > after {
			if len(list.Entries) == maxRecords {
				return errEnough
			}
			list.Entries = append(list.Entries, r.entry().Bytes())
			return nil
		}
		a.read = place{r.Number, next}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}

// errShort matches the errors of Records that the archive has fewer records than the log of it.
var errShort = errors.New("the archive has lost records")

// Inside returns what the role search reads, below PathRecords and PathContent. It asks for no
// token: the caller must let nobody else in.
func (a *Archive) Inside() http.Handler {
	s := &server{Archive: a}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := error(&refused{http.StatusNotFound, http.StatusText(http.StatusNotFound)})
		digest, isContent := strings.CutPrefix(r.URL.Path, PathContent)
		switch {
		case r.Method != http.MethodGet:
		case r.URL.Path == PathRecords:
			err = s.records(w, r)
		case isContent:
			r.SetPathValue("digest", digest)
			err = s.content(w, r)
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	})
}

// records serves PathRecords. It answers 409 if the archive has fewer records.
func (s *server) records(w http.ResponseWriter, r *http.Request) error {
	after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil || after < 0 {
		return &refused{http.StatusBadRequest, "after: expected a number"}
	}
	list, err := s.Records(after)
	if errors.Is(err, errShort) {
		return &refused{http.StatusConflict, err.Error()}
	} else if err != nil {
		return err
	}
	return answer(w, http.StatusOK, list)
}
