/* The Arrow C data interface and C stream interface, as their specification gives them for copying. */
#ifndef KF_ARROW_H
#define KF_ARROW_H

#include <stdint.h>

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

#endif
#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};

#endif

typedef struct ArrowSchema ArrowSchema;
typedef struct ArrowArray ArrowArray;
typedef struct ArrowArrayStream ArrowArrayStream;

/* Who has moved a structure elsewhere leaves it with these: the rest of it must not be looked at. */
static inline int kf_schema_is_moved(const ArrowSchema *schema) { return !schema->release; }
static inline int kf_array_is_moved(const ArrowArray *array) { return !array->release; }
static inline int kf_stream_is_moved(const ArrowArrayStream *stream) { return !stream->release; }

static inline void kf_release_schema(ArrowSchema *schema)
{
    if (schema->release)
        schema->release(schema);
}

static inline void kf_release_array(ArrowArray *array)
{
    if (array->release)
        array->release(array);
}

#endif
