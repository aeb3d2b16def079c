package api

import (
	"cmp"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) showPoolStatus(c *gin.Context, actor broker.Tenant) error {
	status, err := s.cfg.Broker.PoolStatus(c.Request.Context(), actor, c.Param("name"))
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusOK, v1.PoolStatusAnswer{Action: v1.ActionGet, PoolStatus: wirePoolStatus(status)})
}

func wirePoolStatus(s broker.PoolStatus) v1.PoolStatus {
	wire := v1.PoolStatus{
		Name: s.Pool.Name, Description: s.Pool.Description, Arch: s.Arch, FillLevel: s.Now.FillLevel, Levels: v1.Levels(s.Levels),
	}
	if !s.Operator {
		return wire
	}
	wire.PoolOperator = &v1.PoolOperator{
		MaxNodes: s.Now.MaxNodes, Window: s.Now.Window, Base: v1.Numbers{FillLevel: s.Pool.FillLevel, MaxNodes: s.Pool.MaxNodes},
		Generation: s.Pool.Generation(),
		Failed:     s.Failed, Held: s.Held, Stale: s.Stale, Expired: s.Expired,
		Creates: s.Creates, Destroys: s.Destroys, Unmet: s.Unmet,
		OldestReady: v1.Time{Time: s.OldestReady}, MaxAge: int(s.Pool.MaxAge / time.Second),
		Rollout:  cmp.Or(string(s.Rollout), "none"),
		Failures: s.Health.Failures, Failure: s.Health.Message, FailureClass: string(s.Health.Class),
		LastFailure: v1.Time{Time: s.Health.LastFailure}, NextTry: v1.Time{Time: s.NextTry},
		Changes: make([]v1.ScheduleChange, 0, len(s.Changes)),
	}
	if s.Hosts != nil {
		hosts := v1.PoolHosts(*s.Hosts)
		wire.Hosts = &hosts
	}
	for _, v := range s.Variants {
		wire.Variants = append(wire.Variants, v1.VariantStatus{
			Name: v.Name, Ready: v.Ready, Nodes: v.Nodes, CoolsUntil: v1.Time{Time: v.Cools},
			Failure: v.Failure.Message, FailureClass: string(v.Failure.Class), LastFailure: v1.Time{Time: v.Failure.FailedAt},
		})
	}
	for _, f := range s.Pool.FollowedValues() {
		wire.Followed = append(wire.Followed, v1.FollowedValue{Variant: f.Variant, Output: f.Output, Value: f.Value, At: v1.Time{Time: f.At}, New: f.New})
	}
	for _, change := range s.Changes {
		wire.Changes = append(wire.Changes, v1.ScheduleChange{
			At: v1.Time{Time: change.At}, Numbers: v1.Numbers{FillLevel: change.FillLevel, MaxNodes: change.MaxNodes}, Window: change.Window,
		})
	}
	return wire
}
