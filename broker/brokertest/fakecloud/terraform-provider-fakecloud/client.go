package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// Codes of errors that are the provider's own.
const (
	codeInterrupted fakecloud.Class = "Interrupted"
	codeBootFailed  fakecloud.Class = "BootFailed"
)

// client calls the API of a cloud.
type client struct {
	endpoint string
	timeout  time.Duration
	http     *http.Client
}

func newClient(endpoint string, timeout time.Duration) client {
	// A connection for each call: on one that was used before, net/http would
	// repeat a call that was cut off.
	return client{strings.TrimSuffix(endpoint, "/"), timeout, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// call does one call. All errors are a [fakecloud.Error].
func (c client) call(ctx context.Context, method, path string, in, out any) error {
	body := &bytes.Buffer{}
	if in != nil {
		if err := json.NewEncoder(body).Encode(in); err != nil {
			return &fakecloud.Error{Code: fakecloud.InvalidConfiguration, Message: err.Error()}
		}
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, method, c.endpoint+path, body)
	if err != nil {
		return &fakecloud.Error{Code: fakecloud.InvalidConfiguration, Message: err.Error()}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.lost(ctx, limited, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		apiErr := &fakecloud.Error{}
		if err := json.NewDecoder(resp.Body).Decode(apiErr); err != nil || apiErr.Code == "" {
			return &fakecloud.Error{Code: fakecloud.Unreachable, Message: "something that is not the cloud answers " + resp.Status}
		}
		return apiErr
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.lost(ctx, limited, err)
	}
	return nil
}

// lost gives the error of a call that has no answer.
func (c client) lost(ctx, limited context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return &fakecloud.Error{Code: codeInterrupted, Message: err.Error()}
	case limited.Err() != nil:
		return &fakecloud.Error{Code: fakecloud.Timeout, Message: fmt.Sprintf("no answer within %s: %s", c.timeout, err)}
	}
	return &fakecloud.Error{Code: fakecloud.Unreachable, Message: err.Error()}
}

// create does not end with ctx: whoever is interrupted must learn the id of what
// was made.
func (c client) create(ctx context.Context, req fakecloud.Request) (i fakecloud.Instance, err error) {
	return i, c.call(context.WithoutCancel(ctx), http.MethodPost, "/instances", req, &i)
}

func (c client) read(ctx context.Context, id string) (i fakecloud.Instance, err error) {
	return i, c.call(ctx, http.MethodGet, "/instances/"+url.PathEscape(id), nil, &i)
}

func (c client) delete(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/instances/"+url.PathEscape(id), nil, &struct{}{})
}

// list reads all pages; complete tells whether the cloud vouches for each.
func (c client) list(ctx context.Context, tags map[string]string, pageSize int64) (all []fakecloud.Instance, complete bool, err error) {
	query := url.Values{}
	for key, value := range tags {
		query.Add("tag", key+"="+value)
	}
	if pageSize > 0 {
		query.Set("limit", strconv.FormatInt(pageSize, 10))
	}
	for complete = true; ; {
		var page fakecloud.Page
		if err := c.call(ctx, http.MethodGet, "/instances?"+query.Encode(), nil, &page); err != nil {
			return nil, false, err
		}
		all, complete = append(all, page.Instances...), complete && page.Complete
		if page.Next == "" {
			return all, complete, nil
		}
		query.Set("after", page.Next)
	}
}

func codeOf(err error) fakecloud.Class {
	if apiErr, ok := errors.AsType[*fakecloud.Error](err); ok {
		return apiErr.Code
	}
	return "Other"
}
