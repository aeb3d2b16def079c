package broker

import (
	"context"
	"fmt"
	"time"
)

// TenantImport is a tenant of another broker, and what becomes of it here.
type TenantImport struct {
	// Tenant has no id before it is stored, and [ImportedHash] for a KeyHash.
	Tenant Tenant
	// Problem is why it can't be imported, "" if it can.
	Problem string
	// Exists: there is a tenant of its name already, which is left as it is.
	Exists bool
}

// Wanted tells whether an import stores it.
func (i TenantImport) Wanted() bool { return i.Problem == "" && !i.Exists }

// ImportOptions are the settings of [ImportTenants].
type ImportOptions struct {
	From        string // where the tenants come from, for events
	Now         time.Time
	DryRun      bool // write nothing
	SkipInvalid bool // leave those with a problem out, instead of writing nothing
}

// ImportTenants stores tenants of another broker in one transaction, and says
// what becomes of each; an import that is repeated finds that all exist. Events
// tell of those that it stored.
//
// Errors: CodeInvalid if one has a problem and SkipInvalid is not set. Then
// nothing is stored, as with any error, but what would have become of each is
// given all the same.
func ImportTenants(ctx context.Context, store Store, tenants []TenantImport, o ImportOptions) (plan []TenantImport, err error) {
	if o.DryRun {
		err = store.View(ctx, func(tx ReadTx) error {
			plan, err = planImport(tx, tenants, o)
			return err
		})
		return plan, err
	}
	err = store.Update(ctx, func(tx Tx) error {
		if plan, err = planImport(tx, tenants, o); err != nil {
			return err
		}
		for i := range plan {
			if !plan[i].Wanted() {
				continue
			}
			t := &plan[i].Tenant
			if err := tx.CreateTenant(t); err != nil {
				return err
			}
			if err := tenantEvent(tx, *t, o.Now, fmt.Sprintf("tenant '%s' imported from %s", t.Name, o.From)); err != nil {
				return err
			}
		}
		return nil
	})
	return plan, err
}

// planImport decides what becomes of each.
func planImport(tx ReadTx, tenants []TenantImport, o ImportOptions) ([]TenantImport, error) {
	known, err := tx.Tenants()
	if err != nil {
		return nil, err
	}
	taken := make(map[string]bool, len(known)+len(tenants))
	for _, t := range known {
		taken[t.Name] = true
	}
	plan := make([]TenantImport, 0, len(tenants))
	refused := 0
	for _, t := range tenants {
		t.Tenant.ID = 0
		if t.Exists = taken[t.Tenant.Name]; t.Exists {
			t.Problem = "" // of no interest: nothing happens to it
		} else if err := checkTenantName(t.Tenant.Name); err != nil && t.Problem == "" {
			t.Problem = err.Error()
		}
		if t.Problem != "" {
			refused++
		} else {
			taken[t.Tenant.Name] = true
		}
		plan = append(plan, t)
	}
	if refused > 0 && !o.SkipInvalid {
		return plan, Errorf(CodeInvalid, "%d of %d tenants can't be imported, so none is", refused, len(tenants)).
			WithHint("mend them where they come from, or leave them out with --skip-invalid")
	}
	return plan, nil
}
