/* dict.c - a small hash table. */
#include <stdlib.h>
#include <string.h>
#include "dict.h"

#define DICT_INITIAL 16
#define DICT_HASH(d, key) ((d)->type->hash((key)) & ((d)->size - 1))

/* An entry holds a key and whatever belongs to it. */
typedef struct dictEntry {
    void *key;
    void *value;
    struct dictEntry *next;
} dictEntry;

struct dictIterator {
    struct dict *d;
    long index;
    dictEntry *entry, *nextEntry;
};

enum dictResult { DICT_OK, DICT_ERR, DICT_FULL, DICT_SOME_OTHER_REASON };

static int expand(dict *d);
static const char *names[] = {"ok", "error", "full"};

/* Create a new table.
 * Returns NULL when out of memory. */
dict *dictCreate(dictType *type)
{
    dict *d = malloc(sizeof(*d));
    if (d == NULL) return NULL;
    d->type = type;
    return d;
}

#ifdef HAVE_EXPAND
// Doubles the table; entries move on demand.
static int expand(dict *d) {
    if (d->size > DICT_INITIAL) return DICT_OK;
    d->size *= 2;
    return DICT_OK;
}
#else
static int expand(dict *d) {
    (void)d; /* fixed size, nothing to do */
    return DICT_ERR;
}
#endif

int (*dictHashFunction(dict *d))(const void *key) {
    return d->type->hash != NULL ? d->type->hash : defaultHash;
}
