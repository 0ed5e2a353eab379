/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a program itself calls the requests that it serves: the template of a route, the full name of a method.
 *
 * Such texts are constants, or live as long as the program's routes. So a request carries a key, made of where the text is
 * and of its end; the text itself is read when its key is met for the first time.
 */
#ifndef AUTOINSTR_NAMES_H
#define AUTOINSTR_NAMES_H

/* A text in the memory of the process, as Go's strings are. */
struct text {
	__u64 at;
	__u64 size;
};

static __always_inline __u64 name_key(__u64 before, const struct text *text)
{
	__u64 end = 0, size = text->size;

	if (size >= sizeof(end))
		bpf_probe_read_user(&end, sizeof(end), (void *)(text->at + size - sizeof(end)));
	return spread(spread(spread(before ^ text->at) ^ size) ^ end);
}

/* The place for the text of a new key; NULL: it is known, or there is no room. */
static __always_inline struct name *new_name(__u64 key, __u8 kind)
{
	zero_key zero = 0;
	struct name *n = names.lookup(&key), *blank = blank_name.lookup((__u32 *)&zero);

	if (n || !blank)
		return NULL;
	names.update(&key, blank);
	n = names.lookup(&key);
	if (n)
		n->kind = kind;
	return n;
}

/* Adds a text to a name's; if there is no room for it, the name is marked. */
static __always_inline void add_text(struct name *n, const struct text *text)
{
	__u64 at = n->size, size = text->size;

	if (at > NAME_SIZE || size > NAME_SIZE || at + size > NAME_SIZE) {
		n->cut = 1;
		return;
	}
	/* said once more, right where it is used: Linux 6.1 forgets it of what the compiler puts aside */
	if (size && !bpf_probe_read_user(n->text + at_most(at, NAME_SIZE), at_most(size, NAME_SIZE), (void *)text->at))
		n->size = at + size;
}

/* The request that is served has the name with this key. */
static __always_inline void set_name(const struct served *served, __u64 name)
{
	if (served->stream) {
		struct stream_key key = {.id = served->key, .stream = served->stream};
		struct stream *st = streams.lookup(&key);

		if (st)
			st->name = name;
		return;
	}

	__u64 key = served->key;
	struct connection *c = connections.lookup(&key);
	if (c)
		c->slot.name = name;
}

#endif
