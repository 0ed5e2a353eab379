/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A request's place in a trace as the field of a head (W3C trace context). */
#ifndef AUTOINSTR_TRACEPARENT_H
#define AUTOINSTR_TRACEPARENT_H

#define FIELD_SIZE 70 /* "traceparent: 00-<32>-<16>-<2>" CRLF */

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

/* Writes the field into FIELD_SIZE bytes. Where nobody has decided yet whether the trace is kept, it may be. */
static __always_inline void write_field(__u8 *to, const struct trace *t)
{
	const char name[] = "traceparent: 00-";

	__builtin_memcpy(to, name, 16);
	write_hex(to + 16, t->id[0]);
	write_hex(to + 32, t->id[1]);
	to[48] = '-';
	write_hex(to + 49, t->span);
	to[65] = '-';
	to[66] = '0';
	to[67] = t->flags & TRACE_DECIDED && !(t->flags & TRACE_SAMPLED) ? '0' : '1';
	to[68] = '\r';
	to[69] = '\n';
}

#endif
