package fakecloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxPage is the most that a page of a listing has.
const maxPage = 100

func (c *Cloud) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /instances", c.serve(Create, func(_ *http.Request, body []byte, class Class) (any, *Error) {
		var req Request
		if err := decode(body, &req); err != nil {
			return nil, &Error{InvalidConfiguration, err.Error()}
		}
		return c.create(req, class == NeverBoots)
	}))
	mux.HandleFunc("GET /instances/{id}", c.serve(Read, func(r *http.Request, _ []byte, _ Class) (any, *Error) {
		return c.read(r.PathValue("id"))
	}))
	mux.HandleFunc("DELETE /instances/{id}", c.serve(Delete, func(r *http.Request, _ []byte, _ Class) (any, *Error) {
		if id := r.PathValue("id"); !c.Kill(id) {
			return nil, &Error{NotFound, "there is no instance " + id}
		}
		return struct{}{}, nil
	}))
	mux.HandleFunc("GET /instances", c.serve(List, c.serveList))
	mux.HandleFunc("GET /admin/faults", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, c.Faults())
	})
	mux.HandleFunc("PUT /admin/faults", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var f Faults
		if err = errors.Join(err, decode(body, &f), f.check()); err != nil {
			write(w, http.StatusBadRequest, &Error{InvalidConfiguration, err.Error()})
			return
		}
		c.SetFaults(f)
		write(w, http.StatusOK, f)
	})
	return mux
}

func (c *Cloud) serveList(r *http.Request, _ []byte, class Class) (any, *Error) {
	query, limit, tags := r.URL.Query(), maxPage, map[string]string{}
	for _, tag := range query["tag"] {
		key, value, ok := strings.Cut(tag, "=")
		if !ok {
			return nil, &Error{InvalidConfiguration, "tag must be KEY=VALUE, and is " + tag}
		}
		tags[key] = value
	}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, &Error{InvalidConfiguration, "limit must be a number above 0, and is " + text}
		}
		limit = min(n, maxPage)
	}
	return c.list(tags, query.Get("after"), limit, class == PartialListing), nil
}

// serve makes a call of the API out of its effect.
func (c *Cloud) serve(op Operation, effect func(r *http.Request, body []byte, class Class) (any, *Error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// To its end, since only then the server sees a caller go away.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		failure, latency := c.begin(op)
		var answer any
		var refusal *Error
		if failure.Class == "" || failure.Late || failure.Class.alters() {
			answer, refusal = effect(r, body, failure.Class)
		}
		select {
		case <-time.After(latency):
		case <-r.Context().Done():
		case <-c.closing:
		}
		switch status, text := failure.Class.describe(); {
		case failure.Class == Timeout:
			select {
			case <-r.Context().Done():
			case <-c.closing:
			}
			panic(http.ErrAbortHandler) // closes the connection
		case failure.Class == Unreachable:
			panic(http.ErrAbortHandler)
		case status != 0:
			refusal = &Error{failure.Class, text}
		}
		if refusal != nil {
			status, _ := refusal.Code.describe()
			write(w, status, refusal)
			return
		}
		write(w, http.StatusOK, answer)
	}
}

func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a caller that has gone needs no answer
}
