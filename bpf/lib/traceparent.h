/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A request's place in a trace as the field of a head (W3C trace context). */
#ifndef AUTOINSTR_TRACEPARENT_H
#define AUTOINSTR_TRACEPARENT_H

#define FIELD_SIZE 70 /* "traceparent: 00-<32>-<16>-<2>" CRLF */
#define BLOCK_FIELD 69 /* as part of a header block of HTTP/2: RFC 7541, 6.2.2 */
/*
 * A larger header block is left as it is, since who receives it may have a limit (RFC 9113, 6.5.2) that is near: its texts
 * and those of a table of the usual 4096 bytes are not more than about 8 KB as long as it is no larger.
 */
#define MAX_BLOCK 2048

/* "traceparent", as it is and in Huffman's code (RFC 7541, 5.2) */
#define NAME_SIZE_PLAIN 11
#define NAME_SIZE_CODED 8
#define NAME_PLAIN 0x7261706563617274ULL
#define NAME_PLAIN_END 0x746e6572
#define NAME_CODED 0x3fa9851d6b21834dULL

static __always_inline __u8 hex_digit(__u8 value)
{
	return value + (value > 9 ? 'a' - 10 : '0');
}

/* Ids are kept as their bytes are written. */
static __always_inline void write_hex(__u8 *to, __u64 bytes)
{
#pragma unroll
	for (int i = 0; i < 8; i++) {
		to[2 * i] = hex_digit(bytes >> (8 * i + 4) & 15);
		to[2 * i + 1] = hex_digit(bytes >> 8 * i & 15);
	}
}

/* The value, but for its last byte. */
static __always_inline void write_value(__u8 *to, const struct trace *t)
{
	__builtin_memcpy(to, "00-", 3);
	write_hex(to + 3, t->id[0]);
	write_hex(to + 19, t->id[1]);
	to[35] = '-';
	write_hex(to + 36, t->span);
	to[52] = '-';
	to[53] = '0';
}

/* The last one. Where nobody has decided yet whether the trace is kept, it may be. */
static __always_inline __u8 last_of_value(const struct trace *t)
{
	return t->flags & TRACE_DECIDED && !(t->flags & TRACE_SAMPLED) ? '0' : '1';
}

/* Writes the field of HTTP/1 into FIELD_SIZE bytes. */
static __always_inline void write_field(__u8 *to, const struct trace *t)
{
	__builtin_memcpy(to, "traceparent: ", 13);
	write_value(to + 13, t);
	to[67] = last_of_value(t);
	to[68] = '\r';
	to[69] = '\n';
}

/* The same of HTTP/2, BLOCK_FIELD bytes, but for the last one: a literal that goes into no table, with a new name. */
static __always_inline void write_block_field(__u8 *to, const struct trace *t)
{
	to[0] = 0;
	to[1] = NAME_SIZE_PLAIN;
	__builtin_memcpy(to + 2, "traceparent", NAME_SIZE_PLAIN);
	to[13] = TRACEPARENT_SIZE;
	write_value(to + 14, t);
}

#ifdef PROPAGATE_GO

/*
 * By connection: what a field says that was written into the head of its next request; inserted by probes/go_propagate.h,
 * deleted by who finds the field in a head. If the request never comes, nobody else has that field.
 */
struct written_field {
	struct trace trace;
	struct served origin; /* what the request is made for */
};
BPF_TABLE("lru_hash", u64, struct written_field, written_fields, MAX_OFFERS);

#endif
#endif
