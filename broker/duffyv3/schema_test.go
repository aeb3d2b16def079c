package duffyv3_test

import _ "embed"

//go:embed testdata/schema.sql
var schema string

// Rows with all that can be in them.
const rows = `
INSERT INTO tenants (id, created_at, retired_at, name, is_admin, ssh_key, api_key, node_quota, session_lifetime, session_lifetime_max) VALUES
	(1, '2022-05-09 16:40:06.491392', NULL, 'admin', TRUE, '# please override this', 'hash 1', NULL, NULL, NULL),
	(7, '2022-06-01 00:00:00', '2023-07-01 12:00:00.5', 'gone', FALSE, E'ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\\three\t''quoted''; --\r\n', 'hash 7', 5, '06:00:00', '12:00:00'),
	(3, '2022-06-02 01:02:03', NULL, 'long; ''life'' é', FALSE, '', '$2b$12$abc', 0, '1 day 02:03:04.5', '1 year 2 mons 3 days'),
	(4, '2022-06-02 01:02:03', NULL, '\N', FALSE, '\.', '', 10, '-1 days +25:00:00', '1 week');
INSERT INTO sessions (tenant_id, retired_at, data) VALUES (1, NULL, '{"a": "\n;''"}'), (1, '2023-01-01', '{}'), (7, NULL, '{}');
INSERT INTO nodes (hostname, state, retired_at, data) VALUES
	('a', 'ready', NULL, '{}'), ('b', 'ready', NULL, '{"nodepool": "x"}'), ('c', 'deployed', NULL, '{}'),
	(NULL, 'failed', '2023-01-01', '{}'), ('d', 'done', '2023-01-01', '{}');
INSERT INTO sessions_nodes (session_id, node_id) VALUES (1, 3);
`
