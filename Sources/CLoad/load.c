#define OPENSSL_SUPPRESS_DEPRECATED
#include "CLoad.h"
#include <dlfcn.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <zlib.h>

#define TYPE(name) __typeof__(&name)

static const char *load(const char *library, const char *const *names, void **const *places) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return dlerror();
    for (; *names; names++, places++) {
        **places = dlsym(handle, *names);
        if (!**places)
            return dlerror();
    }
    return NULL;
}

// A list of functions becomes a table of typed pointers, and what fills it from a library.
#define POINTER(name) TYPE(name) name;
#define NAME(name) #name,
#define PLACE(name) (void **)&table.name,
#define LIBRARY(functions, loader, file)                                                                               \
    static struct {                                                                                                    \
        functions(POINTER)                                                                                             \
    } table;                                                                                                           \
    const char *loader(void) {                                                                                         \
        static const char *const names[] = {functions(NAME) NULL};                                                     \
        static void **const places[] = {functions(PLACE) NULL};                                                        \
        return load(file, names, places);                                                                              \
    }

// MARK: libcurl

#define CURL_FUNCTIONS(X)                                                                                              \
    X(curl_global_init) X(curl_getdate) X(curl_slist_append) X(curl_slist_free_all)                                    \
    X(curl_easy_init) X(curl_easy_cleanup) X(curl_easy_setopt) X(curl_easy_getinfo) X(curl_easy_strerror)              \
    X(curl_multi_init) X(curl_multi_cleanup) X(curl_multi_setopt) X(curl_multi_add_handle)                             \
    X(curl_multi_remove_handle) X(curl_multi_socket_action) X(curl_multi_info_read)

#define table curl_table
LIBRARY(CURL_FUNCTIONS, cload_curl_functions, "libcurl.so.4")

const char *cload_curl(void) {
    static bool loaded;
    if (loaded)
        return NULL;
    const char *why = cload_curl_functions();
    if (!why && table.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        why = "libcurl can't be set up";
    loaded = !why;
    return why;
}

CURL *ccurl_easy(void) { return table.curl_easy_init(); }
void ccurl_easy_free(CURL *easy) { table.curl_easy_cleanup(easy); }
void ccurl_set_text(CURL *easy, CURLoption option, const char *value) { table.curl_easy_setopt(easy, option, value); }
void ccurl_set_number(CURL *easy, CURLoption option, int64_t value) {
    if (option >= CURLOPTTYPE_OFF_T)
        table.curl_easy_setopt(easy, option, (curl_off_t)value);
    else
        table.curl_easy_setopt(easy, option, (long)value);
}
void ccurl_set_list(CURL *easy, CURLoption option, struct curl_slist *list) {
    table.curl_easy_setopt(easy, option, list);
}
void ccurl_set_context(CURL *easy, CURLoption option, void *context) { table.curl_easy_setopt(easy, option, context); }
void ccurl_set_receiver(CURL *easy, CURLoption option, ccurl_receiver receiver) {
    table.curl_easy_setopt(easy, option, receiver);
}
int64_t ccurl_number(CURL *easy, CURLINFO info) {
    long value = 0;
    table.curl_easy_getinfo(easy, info, &value);
    return value;
}
int64_t ccurl_offset(CURL *easy, CURLINFO info) {
    curl_off_t value = -1;
    table.curl_easy_getinfo(easy, info, &value);
    return value;
}
const char *ccurl_text(CURL *easy, CURLINFO info) {
    char *value = NULL;
    table.curl_easy_getinfo(easy, info, &value);
    return value;
}
const char *ccurl_error(CURLcode code) { return table.curl_easy_strerror(code); }
int64_t ccurl_date(const char *text) { return table.curl_getdate(text, NULL); }
struct curl_slist *ccurl_append(struct curl_slist *list, const char *text) {
    return table.curl_slist_append(list, text);
}
void ccurl_list_free(struct curl_slist *list) { table.curl_slist_free_all(list); }

CURLM *ccurl_multi(void) { return table.curl_multi_init(); }
void ccurl_multi_free(CURLM *multi) { table.curl_multi_cleanup(multi); }
void ccurl_multi_add(CURLM *multi, CURL *easy) { table.curl_multi_add_handle(multi, easy); }
void ccurl_multi_remove(CURLM *multi, CURL *easy) { table.curl_multi_remove_handle(multi, easy); }
void ccurl_multi_watch(CURLM *multi, ccurl_socket_watcher watcher, ccurl_timer_setter setter, void *context) {
    table.curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watcher);
    table.curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, context);
    table.curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, setter);
    table.curl_multi_setopt(multi, CURLMOPT_TIMERDATA, context);
}
void ccurl_multi_act(CURLM *multi, curl_socket_t socket, int events) {
    int running;
    table.curl_multi_socket_action(multi, socket, events, &running);
}
CURL *ccurl_multi_ended(CURLM *multi, CURLcode *result) {
    int left;
    CURLMsg *message;
    while ((message = table.curl_multi_info_read(multi, &left)))
        if (message->msg == CURLMSG_DONE) {
            *result = message->data.result;
            return message->easy_handle;
        }
    return NULL;
}
#undef table

// MARK: libarchive

#define ARCHIVE_FUNCTIONS(X)                                                                                           \
    X(archive_read_new)                                                                                                \
    X(archive_read_free) X(archive_read_open1) X(archive_read_next_header) X(archive_read_data_block)                  \
    X(archive_read_append_filter)                                                                                      \
    X(archive_read_support_format_tar) X(archive_read_support_format_zip) X(archive_read_support_format_7zip)          \
    X(archive_read_support_format_raw) X(archive_read_support_format_empty)                                            \
    X(archive_read_set_read_callback) X(archive_read_set_seek_callback)                                                \
    X(archive_read_set_callback_data) X(archive_error_string) X(archive_format) X(archive_filter_bytes)                \
    X(archive_entry_pathname) X(archive_entry_size) X(archive_entry_size_is_set) X(archive_entry_filetype)

#define table archive_table
LIBRARY(ARCHIVE_FUNCTIONS, cload_archive, "libarchive.so.13")

static struct archive *begin(void *context, carchive_reader reader) {
    struct archive *archive = table.archive_read_new();
    if (!archive)
        return NULL;
    table.archive_read_set_read_callback(archive, reader);
    table.archive_read_set_callback_data(archive, context);
    table.archive_read_support_format_raw(archive);
    return archive;
}

struct archive *carchive_open(void *context, carchive_reader reader, carchive_seeker seeker, int *result) {
    struct archive *archive = begin(context, reader);
    if (!archive)
        return NULL;
    // Not all that it knows: for some of them it runs programs.
    table.archive_read_support_format_tar(archive);
    table.archive_read_support_format_zip(archive);
    table.archive_read_support_format_7zip(archive);
    if (seeker)
        table.archive_read_set_seek_callback(archive, seeker);
    *result = table.archive_read_open1(archive);
    return archive;
}

struct archive *carchive_unpack(void *context, carchive_reader reader, int filter, int *result) {
    struct archive *archive = begin(context, reader);
    if (!archive)
        return NULL;
    // Named, or it would look for more of them below it.
    *result = table.archive_read_append_filter(archive, filter);
    table.archive_read_support_format_empty(archive);
    if (*result == ARCHIVE_OK)
        *result = table.archive_read_open1(archive);
    return archive;
}

int carchive_next(struct archive *archive, const char **name, int64_t *size, bool *is_file) {
    struct archive_entry *entry;
    int result = table.archive_read_next_header(archive, &entry);
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
        return result;
    *name = table.archive_entry_pathname(entry);
    *size = table.archive_entry_size_is_set(entry) ? table.archive_entry_size(entry) : -1;
    // A packed stream has no type.
    *is_file = table.archive_entry_filetype(entry) == AE_IFREG || table.archive_entry_filetype(entry) == 0;
    return ARCHIVE_OK;
}

int carchive_block(struct archive *archive, const void **buffer, size_t *size, int64_t *offset) {
    la_int64_t place = 0;
    int result = table.archive_read_data_block(archive, buffer, size, &place);
    *offset = place;
    return result;
}

const char *carchive_error(struct archive *archive) { return table.archive_error_string(archive); }
bool carchive_is_single(struct archive *archive) { return table.archive_format(archive) == ARCHIVE_FORMAT_RAW; }
int64_t carchive_consumed(struct archive *archive) { return table.archive_filter_bytes(archive, -1); }
void carchive_free(struct archive *archive) { table.archive_read_free(archive); }
#undef table

// MARK: zlib

#define ZLIB_FUNCTIONS(X) X(inflateInit2_) X(inflate) X(inflateReset) X(inflateEnd)

#define table zlib_table
LIBRARY(ZLIB_FUNCTIONS, cload_zlib, "libz.so.1")

struct cgzip {
    z_stream stream;
    bool between_members;
};

cgzip *cgzip_open(void) {
    cgzip *gzip = calloc(1, sizeof *gzip);
    // gzip's wrapping, and no other.
    if (gzip && table.inflateInit2_(&gzip->stream, 16 + MAX_WBITS, ZLIB_VERSION, sizeof gzip->stream) != Z_OK) {
        free(gzip);
        gzip = NULL;
    }
    return gzip;
}

int cgzip_read(cgzip *gzip, const void *input, size_t *input_size, void *output, size_t *output_size) {
    z_stream *stream = &gzip->stream;
    stream->next_in = (Bytef *)input;
    stream->avail_in = *input_size;
    stream->next_out = output;
    stream->avail_out = *output_size;
    // A file can have several members; what follows the last one and is none, gzip itself ignores too.
    if (gzip->between_members && stream->avail_in > 0) {
        if (stream->next_in[0] != 0x1f)
            return *input_size = 0, *output_size = 0, CGZIP_END;
        table.inflateReset(stream);
        gzip->between_members = false;
    }
    int result = gzip->between_members ? Z_OK : table.inflate(stream, Z_NO_FLUSH);
    *input_size -= stream->avail_in;
    *output_size -= stream->avail_out;
    if (result == Z_STREAM_END)
        gzip->between_members = true;
    else if (result != Z_OK && result != Z_BUF_ERROR)
        return CGZIP_BROKEN;
    return gzip->between_members ? CGZIP_END : CGZIP_MORE;
}

void cgzip_free(cgzip *gzip) {
    table.inflateEnd(&gzip->stream);
    free(gzip);
}
#undef table

// MARK: libcrypto

#define CRYPTO_FUNCTIONS(X)                                                                                            \
    X(SHA256_Init) X(SHA256_Update) X(SHA256_Final) X(SHA512_Init) X(SHA512_Update) X(SHA512_Final)

#define table crypto_table
LIBRARY(CRYPTO_FUNCTIONS, cload_crypto, "libcrypto.so.3")

_Static_assert(sizeof(SHA256_CTX) <= CDIGEST_STATE && sizeof(SHA512_CTX) <= CDIGEST_STATE, "the state fits");

void cdigest_begin(int kind, void *state) {
    if (kind == CDIGEST_SHA256)
        table.SHA256_Init(state);
    else
        table.SHA512_Init(state);
}

bool cdigest_is_sound(int kind, const void *state, uint64_t offset) {
    if (kind == CDIGEST_SHA256) {
        const SHA256_CTX *sha256 = state;
        return sha256->num == offset % SHA256_CBLOCK && sha256->md_len == SHA256_DIGEST_LENGTH;
    }
    const SHA512_CTX *sha512 = state;
    return sha512->num == offset % SHA512_CBLOCK && sha512->md_len == SHA512_DIGEST_LENGTH;
}

void cdigest_add(int kind, void *state, const void *bytes, size_t count) {
    if (kind == CDIGEST_SHA256)
        table.SHA256_Update(state, bytes, count);
    else
        table.SHA512_Update(state, bytes, count);
}

int cdigest_finish(int kind, void *state, unsigned char *digest) {
    if (kind == CDIGEST_SHA256)
        table.SHA256_Final(digest, state);
    else
        table.SHA512_Final(digest, state);
    return kind / 8;
}
