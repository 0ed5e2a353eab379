/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A request's place in a trace: ids, whose child it is, and why it is nobody's.
 */
#ifndef AUTOINSTR_TRACE_H
#define AUTOINSTR_TRACE_H

/* Spreads what a word holds over all of its bits (the finaliser of SplitMix64). */
static __always_inline __u64 spread(__u64 value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return value ^ value >> 31;
}

/*
 * A number that no other request has: each CPU goes its own way from where chance has put it (SplitMix64). Who takes a
 * task's place in the middle of it has another time.
 */
static __always_inline __u64 new_number(__u64 time)
{
	zero_key zero = 0;
	struct work_owners *cpu = work_owners.lookup((__u32 *)&zero);

	if (!cpu)
		return 0;
	if (!cpu->number)
		cpu->number = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	cpu->number += 0x9e3779b97f4a7c15ULL;
	return spread(cpu->number ^ time);
}

/* A request begins, in a trace of its own until more is known. */
static __always_inline void begin_trace(struct trace *t, __u64 time)
{
	__u64 span = new_number(time);

	span += !span;
	t->span = span;
	t->id[0] = spread(span ^ time);
	t->id[1] = spread(span) | 1; /* an id of zeros is none */
	t->parent = 0;
	t->peer = 0;
	t->flags = 0;
}

static __always_inline void say_why(struct trace *t, enum orphan why)
{
	t->flags = (t->flags & ~TRACE_ORPHAN_MASK) | why << TRACE_ORPHAN_SHIFT;
}

static __always_inline int is_same_trace(const struct trace *one, const struct trace *other)
{
	return one->id[0] == other->id[0] && one->id[1] == other->id[1];
}

/* The trace goes on: as the one before, under it. */
static __always_inline void continue_trace(struct trace *t, const struct trace *before, __u32 how)
{
	t->id[0] = before->id[0];
	t->id[1] = before->id[1];
	t->parent = before->span;
	t->flags |= how | (before->flags & (TRACE_SAMPLED | TRACE_DECIDED));
}

/* A call is a child of `parent`, if there is one, which is at `found`. */
static __always_inline void become_child(struct trace *t, struct trace *parent, struct served *found)
{
	if (parent) {
		parent->flags |= TRACE_USED;
		continue_trace(t, parent, TRACE_INSIDE);
		return;
	}
	if (!(t->flags & TRACE_ORPHAN_MASK))
		say_why(t, found->span ? ORPHAN_ANSWERED : ORPHAN_NOBODY);
	found->span = 0;
}

/* Eight hexadecimal digits, as W3C trace context has them, as the four bytes that they stand for. `bad`: set if they are none. */
static __always_inline __u32 read_hex(__u64 digits, __u64 *bad)
{
	__u64 letter = digits >> 6 & ONES, low = digits & 15 * ONES;

	*bad |= (digits >> 4 & 15 * ONES) ^ (3 * ONES + 3 * letter);           /* 0x30.., or 0x60.. */
	*bad |= (low + 6 * ONES + 3 * letter) & 16 * ONES;                      /* at most 9, or f */
	*bad |= ~(low + 15 * ONES) & 16 * letter;                               /* at least a */
	low += 9 * letter;
	low = (low << 4 | low >> 8) & 0x00ff00ff00ff00ffULL;
	low = (low | low >> 8) & 0x0000ffff0000ffffULL;
	return low | low >> 16;
}

/* The value of a traceparent field: 00-<trace>-<span>-<flags>. */
struct trace_text {
	__u8 version[3], id[32], dash, span[16], flags[3], end;
};

/* What it says, and whether it is valid. `after`: the byte behind it, or 0. */
static __always_inline int read_text(const struct trace_text *text, __u64 after, struct trace *t)
{
	__u64 words[6], bad = 0;
	__u32 version, flags;

	__builtin_memcpy(words, text->id, 32);
	__builtin_memcpy(words + 4, text->span, 16);
	version = read_hex(0x3030303030300000ULL | text->version[0] | text->version[1] << 8, &bad) & 0xff;
	flags = read_hex(0x3030303030300000ULL | text->flags[1] | text->flags[2] << 8, &bad) & 0xff;
	t->id[0] = read_hex(words[0], &bad) | (__u64)read_hex(words[1], &bad) << 32;
	t->id[1] = read_hex(words[2], &bad) | (__u64)read_hex(words[3], &bad) << 32;
	t->span = read_hex(words[4], &bad) | (__u64)read_hex(words[5], &bad) << 32;
	t->flags = TRACE_DECIDED | (flags & TRACE_SAMPLED);
	bad |= (text->version[2] ^ '-') | (text->dash ^ '-') | (text->flags[0] ^ '-');
	if (bad || version == 0xff || !(t->id[0] | t->id[1]) || !t->span)
		return 0;
	/* a later version may go on behind a dash (section 4.3 of the recommendation) */
	return after < 33 || (after == '-' && version);
}

/* The same, of a request whose head has such a field. */
static __always_inline int read_traceparent(const struct exchange *x, struct trace *t)
{
	struct trace_text text = {};
	__u64 at = x->traceparent, after = 0;

	if (!at || at > HEAD_SIZE - TRACEPARENT_SIZE)
		return 0;
	bpf_probe_read_kernel(&text, TRACEPARENT_SIZE, x->head + at);
	if (at + TRACEPARENT_SIZE < x->head_size && at + TRACEPARENT_SIZE < HEAD_SIZE)
		bpf_probe_read_kernel(&after, 1, x->head + at + TRACEPARENT_SIZE);
	return read_text(&text, after, t);
}

#endif
