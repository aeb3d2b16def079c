package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	webhookRoute = "/reload/webhook"
	// maxWebhookBytes is GitHub's own limit of what it sends.
	maxWebhookBytes = 25 << 20
)

func (s *server) reload(c *gin.Context, actor broker.Tenant) error {
	var k checker
	confirm := ""
	if c.Request.ContentLength != 0 { // the body may be missing
		object, err := readObject(c)
		if err != nil {
			return err
		}
		if v := object["confirm"]; v != nil {
			confirm = k.text(v, "body", "confirm")
		}
	}
	if err := k.err(""); err != nil {
		return err
	}
	r, err := s.cfg.Broker.Reload(c.Request.Context(), actor, confirm)
	return answerReload(c, v1.ActionPost, r, err)
}

func (s *server) showReload(c *gin.Context, actor broker.Tenant) error {
	r, err := s.cfg.Broker.LastReload(c.Request.Context(), actor)
	return answerReload(c, v1.ActionGet, r, err)
}

func answerReload(c *gin.Context, action v1.Action, r broker.Reload, err error) error {
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusOK, v1.ReloadAnswer{Action: action, Reload: v1.Reload{
		At: v1.Time{Time: r.At}, By: r.By, Problem: r.Problem, Since: v1.Time{Time: r.Since}, Pools: r.Pools, Source: r.Source, Revision: r.Revision,
	}})
}

// webhook hears of a push to the repository of the pools. It says nothing about
// what comes of it: those who push see that in the status of the reload.
func (s *server) webhook(c *gin.Context) error {
	if len(s.cfg.WebhookSecret) == 0 {
		return errNoRoute()
	}
	if err := s.trustWebhook(c); err != nil {
		return err
	}
	s.cfg.Webhook()
	c.Status(http.StatusAccepted)
	c.Writer.WriteHeaderNow()
	return nil
}

// trustWebhook compares the proof of a webhook. GitHub and Gitea sign the body,
// GitLab sends the secret itself:
// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries,
// https://docs.gitlab.com/user/project/integrations/webhooks/.
func (s *server) trustWebhook(c *gin.Context) error {
	stranger := statusError{http.StatusUnauthorized, broker.Errorf(broker.CodeUnauthorized, "the webhook's signature or token is missing or wrong").
		WithHint("give the repository's webhook the secret of --webhook-secret-file")}
	if token := c.GetHeader("X-Gitlab-Token"); token != "" {
		if subtle.ConstantTimeCompare([]byte(token), s.cfg.WebhookSecret) != 1 {
			return stranger
		}
		return nil
	}
	signature, found := strings.CutPrefix(c.GetHeader("X-Hub-Signature-256"), "sha256=")
	given, err := hex.DecodeString(signature)
	if !found || err != nil {
		return stranger
	}
	mac := hmac.New(sha256.New, s.cfg.WebhookSecret)
	if _, err := io.Copy(mac, http.MaxBytesReader(c.Writer, c.Request.Body, maxWebhookBytes)); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return statusError{http.StatusRequestEntityTooLarge, broker.Errorf(broker.CodeInvalid, "the webhook's body is larger than %d bytes", maxWebhookBytes)}
		}
		return broker.Wrap(broker.CodeInvalid, err, "the webhook's body can't be read")
	}
	if !hmac.Equal(mac.Sum(nil), given) {
		return stranger
	}
	return nil
}
