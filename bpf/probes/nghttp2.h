/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * nghttp2: what its tables of header fields hold, of connections older than the agent, so that what refers to them is
 * understood from then on. Read once a connection, when the library is given what was read from it: until it has looked at
 * that, the tables are as all bytes before have made them. Where they lie is known to autoinstr/libraries/nghttp2.py.
 */
#ifndef AUTOINSTR_PROBES_NGHTTP2_H
#define AUTOINSTR_PROBES_NGHTTP2_H

#define TABLE_ENTRIES 128 /* of the default size, 4096 bytes, with 32 counted for each beside its texts */

/* What nghttp2_hd_context begins with: a ring of pointers to entries, the newest first. */
struct nghttp2_table {
	__u64 entries;
	__u64 mask;
	__u64 first;
	__u64 count;
	__u64 memory;
	__u64 size; /* bytes of all entries, as RFC 7541, 4.1 counts them */
};

/* nghttp2_nv, and where in an entry it lies. */
#define NGHTTP2_ENTRY_NV 24
struct nghttp2_nv {
	__u64 name, value, name_size, value_size;
};

static __always_inline int read_entry(const struct nghttp2_table *t, __u32 index, struct nghttp2_nv *nv)
{
	__u64 entry = user_u64(t->entries + ((t->first + index) & t->mask) * sizeof(__u64));

	return entry ? bpf_probe_read_user(nv, sizeof(*nv), (void *)(entry + NGHTTP2_ENTRY_NV)) : -1;
}

/* Is this a table? Its entries then count as many bytes as it says. */
static __always_inline int is_table(const struct nghttp2_table *t)
{
	__u64 size = 0;

	if (t->count > TABLE_ENTRIES || t->mask > 1 << 16 || t->mask & (t->mask + 1))
		return 0;
	for (int i = 0; i < TABLE_ENTRIES; i++) {
		struct nghttp2_nv nv;

		http1_barrier();
		if (i >= t->count)
			break;
		if (read_entry(t, i, &nv))
			return 0;
		size += nv.name_size + nv.value_size + 32;
	}
	return size == t->size;
}

static __always_inline void fill_entry(struct http2_entry *e, const struct nghttp2_nv *nv)
{
	__u64 name = nv->name_size, value = nv->value_size;

	e->name_size = 0;
	e->value_size = 0;
	if (!name || name > HTTP2_NAME || value > HTTP2_VALUE)
		return;
	if (bpf_probe_read_user(e->name, at_most(name, HTTP2_NAME), (void *)nv->name))
		return;
	if (value && bpf_probe_read_user(e->value, at_most(value, HTTP2_VALUE), (void *)nv->value))
		return;
	e->name_size = name;
	e->value_size = value;
}

/* Tells what the table there holds. `number`: of the part before which it does; `flags`: HTTP2_REQUEST, or 0. */
static __always_inline void tell_table(const struct connection *c, struct work *w, __u64 at, __u32 number, __u16 flags)
{
	struct exchange *x = told_of(w);
	struct http2_part *part = part_of(x);
	struct http2_entry *e = (struct http2_entry *)part->fragment;
	struct nghttp2_table t;

	if (bpf_probe_read_user(&t, sizeof(t), (void *)at) || !is_table(&t))
		return;
	fill_part(x, c, 0, HTTP2_TABLE | flags);
	x->pid = w->pid;
	x->tid = w->tid;
	part->number = number;
	part->size = sizeof(*e);
	e->of = t.count;
	e->left = 0;
	e->name_size = 0;
	if (!t.count) {
		put_exchange(x);
		return;
	}
	for (int i = 0; i < TABLE_ENTRIES; i++) {
		struct nghttp2_nv nv;

		http1_barrier();
		if (i >= t.count)
			break;
		e->left = t.count - 1 - i;
		if (read_entry(&t, t.count - 1 - i, &nv))
			return;
		fill_entry(e, &nv);
		if (put_exchange(x))
			return;
	}
}

/* ssize_t nghttp2_session_mem_recv(nghttp2_session *session, const uint8_t *in, size_t inlen), and _mem_recv2 */
int nghttp2_received(struct pt_regs *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid(), pid = current_pid();
	struct last_read *read = last_reads.lookup(&tid);
	__u64 n = ARGUMENT(3, ctx);
	struct last_read now = {};

	if (!hit_of_watched(pid))
		return 0;
	if (!read || n > 1 << 30)
		return 0;
	now = *read;
	last_reads.delete(&tid);
	if (!now.key || now.open)
		return 0;
	/* an event loop that acts at once on what it reads may have moved it (Node) */
	if (now.buffer != ARGUMENT(2, ctx) && !(runtime_of(pid) & RUNTIME_IN_ORDER))
		return 0;

	struct go_layout *l = go_layouts.lookup(&pid);
	struct connection *c = connections.lookup(&now.key);
	struct http2 *h = http2_connections.lookup(&now.key);
	struct work *w = session_work();
	struct last_read given = {};

	if (!l || !l->inflater || !c || !h || !w || c->role == ROLE_UNKNOWN)
		return 0;
	if (n > READ_BEGINNING)
		n = READ_BEGINNING;
	if (bpf_probe_read_user(given.beginning, at_most(n, READ_BEGINNING), (void *)ARGUMENT(2, ctx)))
		return 0;
	for (int i = 0; i < READ_BEGINNING; i++)
		if (given.beginning[i] != now.beginning[i])
			return 0;
	h->noted = NOTED_READS;
	w->pid = pid;
	w->tid = tid;
	tell_table(c, w, ARGUMENT(1, ctx) + l->inflater, now.number, c->role == ROLE_SERVER ? HTTP2_REQUEST : 0);
	http1_barrier();
	if (!h->sides[0].open && h->sides[0].phase == HTTP2_HEADER && !h->sides[0].carried)
		tell_table(c, w, ARGUMENT(1, ctx) + l->deflater, h->sides[0].number, c->role == ROLE_CLIENT ? HTTP2_REQUEST : 0);
	return 0;
}

#endif
