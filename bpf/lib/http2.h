/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2 frames (RFC 9113): what their headers say, and what can be told from the first bytes of a header block. Calls
 * no helper of the kernel.
 */
#ifndef AUTOINSTR_HTTP2_H
#define AUTOINSTR_HTTP2_H

#define PREFACE_SIZE 24
#define PREFACE_1 0x5448202a20495250ULL /* "PRI * HT" */
#define PREFACE_2 0x0a0d302e322f5054ULL /* "TP/2.0" CR LF */
#define FRAME_HEADER 9
#define FRAME_PREFIX 8 /* of a payload, bytes that may have to be looked at */

enum http2_type {
	HTTP2_DATA = 0,
	HTTP2_HEADERS = 1,
	HTTP2_PRIORITY = 2,
	HTTP2_RST_STREAM = 3,
	HTTP2_SETTINGS = 4,
	HTTP2_PUSH_PROMISE = 5,
	HTTP2_PING = 6,
	HTTP2_GOAWAY = 7,
	HTTP2_WINDOW_UPDATE = 8,
	HTTP2_CONTINUATION = 9,
	HTTP2_TYPES,
};

#define HTTP2_END_STREAM 0x1
#define HTTP2_END_HEADERS 0x4
#define HTTP2_PADDED 0x8
#define HTTP2_HAS_PRIORITY 0x20

enum http2_phase {
	HTTP2_HEADER,  /* the header of a frame */
	HTTP2_PREFIX,  /* the same, and what has to be known of its payload */
	HTTP2_BLOCK,   /* part of a header block */
	HTTP2_SKIP,    /* bytes that are not looked at */
	HTTP2_PREFACE, /* the client's first bytes */
	HTTP2_SEARCH,  /* where a frame begins is not known: perhaps with the next call */
};

static __always_inline __u32 load_be32(const __u8 *at)
{
	return (__u32)at[0] << 24 | (__u32)at[1] << 16 | (__u32)at[2] << 8 | at[3];
}

/* Length of the payload. */
static __always_inline __u32 frame_length(const __u8 *header)
{
	return (__u32)header[0] << 16 | (__u32)header[1] << 8 | header[2];
}

static __always_inline __u32 frame_stream(const __u8 *header)
{
	return load_be32(header + 5) & 0x7fffffff;
}

/* Flags that a frame may have (RFC 9113, 6), a byte for each of the first eight types, the first in the lowest. */
#define FRAME_FLAGS 0x00010c0100002d09ULL

/*
 * May this be the header of a frame? `guess`: where it begins is not certain, so nothing unusual is believed; else what
 * has to be ignored (RFC 9113, 4.1 and 5.5) is.
 */
static __always_inline int valid_frame(const __u8 *header, int guess)
{
	__u32 length = frame_length(header), stream = frame_stream(header), type = header[3];

	if (guess) {
		__u8 known = type == HTTP2_CONTINUATION ? HTTP2_END_HEADERS :
			     type < 8			? FRAME_FLAGS >> (8 * (type & 7)) :
							  0;

		if (type >= HTTP2_TYPES || header[4] & ~known || header[5] & 0x80)
			return 0;
		if ((type == HTTP2_DATA || type == HTTP2_HEADERS) && !(stream & 1))
			return 0;
	}
	switch (type) {
	case HTTP2_DATA:
	case HTTP2_HEADERS:
	case HTTP2_CONTINUATION:
		return stream != 0;
	case HTTP2_PRIORITY:
		return stream != 0 && length == 5;
	case HTTP2_RST_STREAM:
		return stream != 0 && length == 4;
	case HTTP2_SETTINGS:
		return stream == 0 && length % 6 == 0 && length <= 1 << 14;
	case HTTP2_PUSH_PROMISE:
		return stream != 0 && length >= 4;
	case HTTP2_PING:
		return stream == 0 && length == 8;
	case HTTP2_GOAWAY:
		return stream == 0 && length >= 8;
	case HTTP2_WINDOW_UPDATE:
		return length == 4;
	}
	return 1;
}

/* May the n bytes be the beginning of a SETTINGS frame, with which a server begins? */
static __always_inline int begins_settings(__u64 word, __u64 n)
{
	/* length below 64 KB, type 4, flags and stream 0; as far as the bytes go */
	return n && !(__u8)word && (n < 4 || (word >> 24 & 0xff) == HTTP2_SETTINGS) && (n < 5 || !(word >> 32 & 0xff)) &&
	       (n < 6 || !(word >> 40 & 0xff)) && (n < 8 || !(word >> 48));
}

#define KEPT_MAX 7 /* bytes of a block that may be kept */

/*
 * May a response's block, whose first bytes these are, be told later, as long as that is before any other block of its
 * direction? If it has but indexed fields of one byte each (RFC 7541, 6.1), the first of them a status: it changes no table.
 */
static __always_inline int may_be_kept(__u64 word, __u64 size)
{
	__u64 mask = (1ULL << (8 * size & 63)) - 1, high = 0x8080808080808080ULL & mask;
	__u64 long_ones = ((word & ~high & mask) + (0x0101010101010101ULL & mask)) & high;

	return (size - 1 < KEPT_MAX) & ((word & high) == high) & !long_ones & ((word & 0xff) - 0x88 <= 0x8e - 0x88);
}

/* Does a block with this first byte begin with another size of the table (RFC 7541, 6.3)? */
static __always_inline int begins_with_size(__u8 first)
{
	return (first & 0xe0) == 0x20;
}

enum { BLOCK_UNKNOWN, BLOCK_REQUEST, BLOCK_RESPONSE };

/* Pseudo-header fields of the static table (RFC 7541, appendix A). */
#define STATIC_AUTHORITY 1
#define STATIC_STATUS 8
#define STATIC_PSEUDO_END 15

/*
 * Whose header block is it? Pseudo-header fields come first; one of the static table tells. Other sizes of the table are
 * passed over, which may stand before them; and fields of the dynamic table, as long as each is one byte.
 */
static __always_inline int block_of(const __u8 *fragment, __u64 size)
{
	int found = BLOCK_UNKNOWN, goes_on = 0;

#pragma unroll
	for (int i = 0; i < 8; i++) {
		__u8 byte = fragment[i], index;

		if (found || i >= size)
			continue;
		if (goes_on || begins_with_size(byte)) {
			goes_on = goes_on ? byte >= 0x80 : byte == 0x3f;
			continue;
		}
		if (byte >= 0x80)
			index = byte & 0x7f; /* indexed */
		else if (byte >= 0x40)
			index = byte & 0x3f; /* literal, to be indexed */
		else
			index = byte & 0xf; /* literal, not to be indexed */
		if (index >= STATIC_AUTHORITY && index < STATIC_STATUS)
			found = BLOCK_REQUEST;
		else if (index >= STATIC_STATUS && index < STATIC_PSEUDO_END)
			found = BLOCK_RESPONSE;
		else if (byte < 0x80 || byte == 0xff)
			size = 0; /* longer than a byte: what follows it is not known */
	}
	return found;
}

/* The status in the first bytes of a response's header block, if it is easy to see; else 0. */
static __always_inline __u16 status_of(const __u8 *fragment, __u64 size)
{
	__u8 first = fragment[0];
	__u32 hundreds = fragment[2] - '0', tens = fragment[3] - '0', ones = fragment[4] - '0';

	switch (size ? first : 0) {
	case 0x88:
		return 200;
	case 0x89:
		return 204;
	case 0x8a:
		return 206;
	case 0x8b:
		return 304;
	case 0x8c:
		return 400;
	case 0x8d:
		return 404;
	case 0x8e:
		return 500;
	}
	if (size >= 5 && (first == 0x48 || first == 0x08 || first == 0x18) && fragment[1] == 3 && hundreds <= 9 &&
	    tens <= 9 && ones <= 9)
		return hundreds * 100 + tens * 10 + ones;
	return 0;
}

#endif
