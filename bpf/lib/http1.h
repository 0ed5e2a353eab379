/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/1 message framing (RFC 9112) of one direction of a connection: where heads, bodies and messages end.
 *
 * In:  the bytes of one direction, in windows of at most WINDOW bytes, cut anywhere.
 * Out: events (enum http1_event), and what framing needs of a head: status, length of the body, traceparent.
 * Never: pairs requests with responses (lib/exchange.h), or calls a BPF helper: tests compile this file with gcc.
 *
 * All state between windows is in struct framer. What changes during a scan is in struct scan, in memory and not in
 * registers: the verifier forgets values that went through memory, so every turn of the loop looks alike to it. Offsets
 * are 64 bits wide: of narrower ones the compiler shifts the upper half away, and their bounds with it.
 */
#ifndef AUTOINSTR_HTTP1_H
#define AUTOINSTR_HTTP1_H

#define WINDOW 512
#define CARRY 96        /* longest incomplete line kept between calls; every field that framing needs is shorter */
#define REACH 64        /* bytes in which one turn looks for line feeds */
#define WINDOW_MASK 1023 /* what the verifier is told of offsets in the window */
/* words and copies are checked one by one, and may reach beyond the window */
#define WINDOW_SLACK (WINDOW_MASK + 1 - WINDOW + REACH)
#define CARRY_TAIL 16   /* of a longer request line its end is kept: " HTTP/1.1\r" */
#ifndef SCAN_TURNS
#define SCAN_TURNS 24
#endif

enum http1_phase {
	HTTP1_START_LINE, /* before or in a start line */
	HTTP1_FIELDS,     /* header fields */
	HTTP1_CHUNK_SIZE, /* the line before a chunk */
	HTTP1_TRAILERS,   /* after the last chunk */
	/* phases whose bytes are skipped, not looked at */
	HTTP1_BODY,        /* content-length */
	HTTP1_CHUNK_DATA,  /* one chunk and its CRLF */
	HTTP1_UNTIL_CLOSE, /* the connection's end ends the body */
	HTTP1_CHUNKS_LOST, /* chunk boundaries lost: the end is recognised by its bytes */
};

enum http1_event {
	HTTP1_MORE,    /* the window ended within a line */
	HTTP1_HEAD,    /* the empty line after a head */
	HTTP1_CHUNK,   /* a chunk-size line; framer.remaining is set */
	HTTP1_END,     /* the empty line after the trailers */
	HTTP1_INVALID, /* not HTTP/1 */
};

#define FRAMER_BEGUN 1      /* the first byte of the message was seen */
#define FRAMER_LENGTH 2     /* Content-Length */
#define FRAMER_CHUNKED 4    /* Transfer-Encoding: chunked */
#define FRAMER_LONG_LINE 8  /* in a line longer than what is kept: skip to its end */
#define FRAMER_ABOUT 16     /* body size is not exact */
#define FRAMER_PROLOGUE 32  /* in the line before a connection's first message */
#define FRAMER_UNSEEN 64    /* chunks were not seen; `remaining` is the time of the last bytes, which may have been the end */

struct framer {
	__u64 remaining; /* of the body or chunk */
	__u64 body;      /* payload bytes so far */
	__u32 head;      /* offset of the next window in the head */
	__u16 status;    /* responses */
	__u8 phase;      /* enum http1_phase */
	__u8 flags;      /* FRAMER_* */
	__u8 carried;    /* valid bytes in carry */
	__u8 unused[7];
	__u8 carry[CARRY]; /* start of an incomplete line */
};

struct scan {
	__u64 from;  /* offset behind the bytes in which line feeds were looked for */
	__u64 feeds; /* a bit for each of the last REACH of them: a line feed that has not been taken */
	__u64 line; /* offset of the current line */
	__u64 start, start_end;
	__u64 length_at;
	__u64 coding_end;
	__u64 traceparent_at; /* offset of its value; 0: none */
	__u64 chunk_at;
	__u64 size;
	__u64 phase;
	__u64 long_line;
	__u64 done;
	__u64 seen; /* all of the window: what follows the last line is none yet */
	__u64 turns; /* see LOOP() */
};

#define http1_barrier() asm volatile("" ::: "memory")

/*
 * A loop of at most `most` turns. The verifier follows it turn by turn, which takes the longest part of a start. From Linux
 * 6.10 on it takes a jump that may be made at any time (may_goto), and then follows a loop only until a turn begins with
 * what it knows already; the count is in memory there, `counter`, so that the verifier does not know it.
 *
 * What a turn leaves in registers and on the stack is compared, too, even if nobody reads it any more. So a turn that has
 * much to do is there a function of its own (APART), whose leavings go with it; what it is about is in the caller's hands.
 */
#ifdef MAY_GOTO
#define MAY_GO_ON()                                                                                                    \
	({                                                                                                             \
		__label__ stop, end;                                                                                   \
		int on = 1;                                                                                            \
		asm volatile goto("1:.byte 0xe5\n.byte 0\n.long ((%l[stop] - 1b - 8) / 8) & 0xffff\n.short 0"          \
				  ::: "memory" : stop);                                                                \
		goto end;                                                                                              \
stop:                                                                                                                  \
		on = 0;                                                                                                \
end:                                                                                                                   \
		on;                                                                                                    \
	})
#define LOOP(counter, most) for ((counter) = 0; (counter) < (most) && MAY_GO_ON(); (counter)++)
#define TURNS(name, counter, most)                                                                                     \
	__u32 *name = &(counter);                                                                                      \
	*name = (most)
#define ANOTHER(name) (--*name && MAY_GO_ON())
#define APART(name, type) int name(type *at)
#define TURN(name, at) (((int (*)(void *))(__u64)APART_##name)(at))
#define LOOP_OVER(i, counter, most)                                                                                    \
	for (__u32 i = (counter) = 0; (i = (counter)) < (most) && MAY_GO_ON(); (counter)++)
#else
#define LOOP(counter, most) for (__u32 turn_ = 0; turn_ < (most); turn_++)
#define LOOP_OVER(i, counter, most) for (__u32 i = 0; i < (most); i++)
#define TURNS(name, counter, most) __u32 name = (most)
#define ANOTHER(name) (--name)
#define APART(name, type) static __always_inline int name(type *at)
#define TURN(name, at) name(at)
#endif

/*
 * The value, or the limit if that is less: for lengths and offsets of which this is known, but not to the verifier.
 * What is checked is the very register that is used from here on, for Linux 5.10 learns nothing about copies of it. The
 * usual case comes first, so that the verifier finds the other one to be a part of it.
 */
static __always_inline __u64 at_most(__u64 value, const __u64 limit)
{
#ifdef __BPF_TRACING__
	asm volatile("if %0 > %1 goto +1\ngoto +1\n%0 = %1" : "+r"(value) : "i"(limit));
	return value;
#else
	return value < limit ? value : limit;
#endif
}

/* A plain load, aligned or not: both architectures do it, and a copy byte by byte is what a packed one becomes. */
static __always_inline __u64 load64(const __u8 *at)
{
	return *(const __u64 *)at;
}

/* An offset in the window, less than its size as the code has it, but not for the verifier. */
static __always_inline __u64 within(__u64 at)
{
#ifdef __BPF_TRACING__
	asm volatile("%0 &= %1" : "+r"(at) : "i"(WINDOW_MASK));
#endif
	return at;
}

static __always_inline __u64 word_at(const __u8 *window, __u64 at)
{
	return load64(window + within(at));
}

static __always_inline __u8 byte_at(const __u8 *window, __u64 at)
{
	return window[within(at)];
}

#define ONES 0x0101010101010101ULL
#define HIGH 0x8080808080808080ULL

/* High bit of every byte of the word that is this one; exact for all bytes. */
static __always_inline __u64 matches_of(__u64 word, const __u64 byte)
{
	__u64 other = word ^ byte * ONES;

	return ~(((other & ~HIGH) + ~HIGH) | other | ~HIGH);
}

static __always_inline __u64 line_feeds(__u64 word)
{
	return matches_of(word, '\n');
}

/* Number of the byte in which the lowest set bit of such a mask lies; 8: there is none. */
static __always_inline __u64 first_match(__u64 matches)
{
	__u64 below = ~matches & (matches - 1) & HIGH;

	return ((below >> 7) * ONES) >> 56;
}

#define LOWER 0x2020202020202020ULL
/* A bit for each of the REACH bytes from `from` on: is it a line feed? One way, whatever is there, for the verifier. */
static __always_inline __u64 line_feeds_from(const __u8 *window, __u64 from)
{
	__u64 found = 0;

	from = within(from);
#pragma unroll
	for (int i = 0; i < REACH; i += 8) {
		found |= ((line_feeds(load64(window + from + i)) >> 7) * 0x0102040810204080ULL) >> 56 << i;
		asm volatile("" : "+r"(found)); /* one after the other: all at once take more registers than there are */
	}
	return found;
}

/* Number of the lowest set bit; there is one. */
static __always_inline __u64 first_bit(__u64 bits)
{
	__u64 below = ~bits & (bits - 1);

	/* where the compiler knows what follows, it makes an instruction of it that there is not */
	asm volatile("" : "+r"(below));
	below -= below >> 1 & 0x5555555555555555ULL;
	below = (below & 0x3333333333333333ULL) + (below >> 2 & 0x3333333333333333ULL);
	below = (below + (below >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (below * ONES) >> 56;
}

#define WORD_CONTENT 0x2d746e65746e6f63ULL  /* "content-" */
#define WORD_LENGTH 0x3a6874676e656cULL     /* "length:" */
#define WORD_TRANSFER 0x726566736e617274ULL /* "transfer" */
#define WORD_ENCODING 0x6e69646f636e652dULL /* "-encodin" */
#define WORD_CHUNKED 0x64656b6e756863ULL    /* "chunked" */
#define WORD_TRACEPAR 0x7261706563617274ULL /* "tracepar" */
#define WORD_ENT 0x3a746e65ULL              /* "ent:" */
#define WORD_HTTP1 0x2e312f50545448ULL      /* "HTTP/1." */
#define SEVEN 0x00ffffffffffffffULL

/* May the n bytes (at least one) be the beginning of a start line? */
static __always_inline int plausible_start(__u64 word, __u64 n, int response)
{
	__u8 first = word;

	if (response) {
		__u64 mask = n >= 7 ? SEVEN : (1ULL << (8 * (n & 7))) - 1;

		return (word & mask) == (WORD_HTTP1 & mask);
	}
	return (first | 0x20) >= 'a' && (first | 0x20) <= 'z';
}

/* The word with its first bytes as the last ones, behind zeros. */
static __always_inline __u64 put_last(__u64 word, __u64 count)
{
	return word << (32 - 4 * count) << (32 - 4 * count);
}

/* How many digits a word begins with, at most 8. */
static __always_inline __u64 count_decimal(__u64 word)
{
	__u64 digits = word ^ '0' * ONES; /* each at most 9 */

	return first_match((((digits & ~HIGH) + 118 * ONES) | digits) & HIGH);
}

static __always_inline __u64 decimal(__u64 word, __u64 count)
{
	__u64 value = put_last(word, count);

	value = (value & 0x0f0f0f0f0f0f0f0fULL) * 2561 >> 8;
	value = (value & 0x00ff00ff00ff00ffULL) * 6553601 >> 16;
	return (value & 0x0000ffff0000ffffULL) * 42949672960001ULL >> 32;
}

static __always_inline __u64 count_hexadecimal(__u64 word)
{
	__u64 digits = word ^ '0' * ONES;             /* each at most 9 ... */
	__u64 letters = (word | LOWER) ^ 0x60 * ONES; /* ... or one of 1 to 6 */
	__u64 no_digits = ((digits & ~HIGH) + 118 * ONES) | digits;
	__u64 no_letters = ((letters & ~HIGH) + 121 * ONES) | ~((letters & ~HIGH) + 127 * ONES) | letters;

	return first_match(no_digits & no_letters & HIGH);
}

static __always_inline __u64 hexadecimal(__u64 word, __u64 count)
{
	__u64 value = put_last((word & 15 * ONES) + (word >> 6 & ONES) * 9, count);

	value = (value << 4 | value >> 8) & 0x00ff00ff00ff00ffULL;
	value = (value << 8 | value >> 16) & 0x0000ffff0000ffffULL;
	return (value << 16 | value >> 32) & 0xffffffff;
}

/* Blanks at the beginning of a word. */
static __always_inline __u64 blanks(__u64 word)
{
	return first_match(~(matches_of(word, ' ') | matches_of(word, '\t')) & HIGH);
}

/*
 * Value of the digits at `at`, after blanks; -1: none there, or more than fit in two words. One way, whatever is there, for
 * the verifier.
 */
static __always_inline __s64 number(const __u8 *window, __u64 at, const __u64 base)
{
	__u64 first, second, count, more, value, power;

	at += blanks(word_at(window, at));
	at += blanks(word_at(window, at));
	first = word_at(window, at);
	second = word_at(window, at + 8);
	count = base == 16 ? count_hexadecimal(first) : count_decimal(first);
	more = base == 16 ? count_hexadecimal(second) : count_decimal(second);
	more &= -(count >> 3); /* those of the second word go on only where all of the first one are */
	value = base == 16 ? hexadecimal(first, count) : decimal(first, count);
	if (base == 16) {
		power = 1ULL << (4 * more);
		value = value * power + hexadecimal(second, more);
	} else {
		power = 1 + 9 * (more & 1);
		power *= 1 + 99 * (more >> 1 & 1);
		power *= 1 + 9999 * (more >> 2 & 1);
		value = value * power + decimal(second, more);
	}
	return count && more < 8 ? (__s64)value : -1;
}

/* Notes the line [at, end) of a head if framing or tracing needs it. */
static __always_inline void note_field(const __u8 *window, struct scan *s, __u64 at, __u64 end)
{
	__u64 name = word_at(window, at) | LOWER;

	if (name == WORD_CONTENT) {
		if (((word_at(window, at + 8) | LOWER) & SEVEN) == WORD_LENGTH)
			s->length_at = at + 15;
	} else if (name == WORD_TRANSFER) {
		if ((word_at(window, at + 8) | LOWER) == WORD_ENCODING && (byte_at(window, at + 16) | 0x20) == 'g' &&
		    byte_at(window, at + 17) == ':')
			s->coding_end = end;
	} else if (name == WORD_TRACEPAR) {
		if (((word_at(window, at + 8) | LOWER) & 0xffffffff) == WORD_ENT)
			s->traceparent_at = at + 12;
	}
}

/* Is the start line that ends at s->start_end one of HTTP/1? Sets the status of a response. */
static __always_inline int valid_start(struct framer *f, const __u8 *window, struct scan *s, int response)
{
	__u64 at = s->start, end = s->start_end;

	if (response) {
		if (at >= WINDOW || end - at < 12 || end < at)
			return 0;

		__u64 version = word_at(window, at), rest = word_at(window, at + 8);
		__u64 hundreds = ((rest >> 8) & 0xff) - '0', tens = ((rest >> 16) & 0xff) - '0',
		      ones = ((rest >> 24) & 0xff) - '0';

		if ((version & SEVEN) != WORD_HTTP1 || hundreds - 1 > 8 || tens > 9 || ones > 9)
			return 0;
		f->status = hundreds * 100 + tens * 10 + ones;
		return 1;
	}
	if (end < 9 || end >= WINDOW)
		return 0;
	if (byte_at(window, end - 1) == '\r')
		end--;
	if (end < 9)
		return 0;
	return (word_at(window, end - 8) & SEVEN) == WORD_HTTP1 && byte_at(window, end - 9) == ' ';
}

/*
 * Looks at the first `size` bytes of the window; `window` has WINDOW + WINDOW_SLACK bytes, the first `f->carried` of
 * them are f->carry. `s->line` tells how many bytes were consumed: all lines that are complete.
 */
static __always_inline enum http1_event http1_scan(struct framer *f, struct scan *s, const __u8 *window, __u64 size,
						   int response)
{
	s->size = size;
	s->from = 0;
	s->feeds = 0;
	s->line = 0;
	s->start_end = 0;
	s->length_at = 0;
	s->coding_end = 0;
	s->traceparent_at = 0;
	s->done = 0;
	s->seen = 0;
	s->phase = f->phase;
	s->long_line = f->flags & FRAMER_LONG_LINE;

	LOOP (s->turns, SCAN_TURNS) {
		http1_barrier();
		size = s->size;
		if (!s->feeds) {
			__u64 from = s->from;

			if (from >= size || from >= WINDOW) {
				s->seen = 1;
				break;
			}
			s->from = from + REACH;
			s->feeds = line_feeds_from(window, from);
			if (!s->feeds)
				continue;
		}
		http1_barrier();

		__u64 feeds = s->feeds, end = s->from - REACH + first_bit(feeds), at = s->line;

		s->feeds = feeds & (feeds - 1);
		if (end >= size || at >= WINDOW || end < at) {
			s->seen = 1;
			break;
		}
		s->line = end + 1;

		int empty = end == at || (end == at + 1 && byte_at(window, at) == '\r');

		if (s->long_line) {
			s->long_line = 0;
			if (s->phase == HTTP1_START_LINE) {
				s->start = at;
				s->start_end = end;
				s->phase = HTTP1_FIELDS;
			}
		} else if (s->phase == HTTP1_START_LINE) {
			if (empty)
				continue; /* RFC 9112, 2.2: ignore empty lines before a request line */
			s->start = at;
			s->start_end = end;
			s->phase = HTTP1_FIELDS;
		} else if (s->phase == HTTP1_CHUNK_SIZE) {
			s->chunk_at = at;
			s->done = 1;
			break;
		} else if (empty) {
			s->done = 1;
			break;
		} else if (s->phase == HTTP1_FIELDS) {
			note_field(window, s, at, end);
		}
	}

	http1_barrier();
	size = s->size;
	if (s->start_end && !valid_start(f, window, s, response))
		return HTTP1_INVALID;

	if (s->length_at) {
		__s64 length = number(window, s->length_at, 10);

		if (length >= 0) {
			f->remaining = length;
			f->flags |= FRAMER_LENGTH;
		}
	}

	http1_barrier();
	__u64 end = s->coding_end;
	if (end >= 10 && end < WINDOW) {
		/* RFC 9112, 6.3: only the last coding tells how the body is framed */
		if (byte_at(window, end - 1) == '\r')
			end--;
		if (end >= 10 && byte_at(window, end - 1) == ' ')
			end--;
		if (end >= 8 && ((word_at(window, end - 7) | LOWER) & SEVEN) == WORD_CHUNKED)
			f->flags |= FRAMER_CHUNKED;
		else
			f->flags &= ~FRAMER_CHUNKED;
	}

	http1_barrier();
	if (f->phase == HTTP1_CHUNK_SIZE && s->done) {
		__s64 length = number(window, s->chunk_at, 16);

		if (length < 0)
			return HTTP1_INVALID;
		f->remaining = length;
		return HTTP1_CHUNK;
	}

	if (s->phase == HTTP1_START_LINE && !s->long_line && s->line < size && s->line < WINDOW &&
	    !plausible_start(word_at(window, s->line), size - s->line, response))
		return HTTP1_INVALID;

	if (!s->long_line)
		f->flags &= ~FRAMER_LONG_LINE;
	if (s->done)
		return f->phase == HTTP1_TRAILERS ? HTTP1_END : HTTP1_HEAD;
	f->phase = s->phase;
	return HTTP1_MORE;
}

/*
 * After HTTP1_HEAD: how the message goes on (RFC 9112, 6.3). `bodiless`: a response to HEAD, 1xx, 204 or 304.
 * Returns 1 if the message ends with its head.
 */
static __always_inline int http1_after_head(struct framer *f, int response, int bodiless)
{
	f->body = 0;
	if (bodiless)
		return 1;
	if (f->flags & FRAMER_CHUNKED) {
		f->phase = HTTP1_CHUNK_SIZE;
		return 0;
	}
	if (f->flags & FRAMER_LENGTH) {
		f->phase = HTTP1_BODY;
		return f->remaining == 0;
	}
	if (!response)
		return 1;
	f->phase = HTTP1_UNTIL_CLOSE;
	return 0;
}

/* After HTTP1_CHUNK. */
static __always_inline void http1_after_chunk_size(struct framer *f)
{
	if (f->remaining) {
		f->body += f->remaining;
		f->remaining += 2; /* the CRLF after the data */
		f->phase = HTTP1_CHUNK_DATA;
	} else {
		f->phase = HTTP1_TRAILERS;
	}
}

/* The framer as it is before the first byte of a message. */
static __always_inline void http1_reset(struct framer *f)
{
	f->remaining = 0;
	f->body = 0;
	f->head = 0;
	f->status = 0;
	f->phase = HTTP1_START_LINE;
	f->flags = 0;
	f->carried = 0;
}

#endif
