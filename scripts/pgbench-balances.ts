/** What pgbench changes in one transaction is the same sum everywhere, if all of it is there; one statement sees one moment. Told as `t|COUNT` of transactions. */
export const PGBENCH_BALANCES = `select a = b and b = t and t = h, n from
  (select sum(abalance) as a from pgbench_accounts) as _a, (select sum(bbalance) as b from pgbench_branches) as _b,
  (select sum(tbalance) as t from pgbench_tellers) as _t, (select coalesce(sum(delta), 0) as h, count(*) as n from pgbench_history) as _h`;
