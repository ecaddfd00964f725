// CloudFront Function (cloudfront-js-2.0) for `.auto` URLs; published by `photo-pipeline routing publish`.
//
// viewer-request: /.../full.auto becomes /.../full.avif, .webp or .jpg, whichever the Accept header names best.
// The path is the cache key, so Accept stays out of it. viewer-response (optional): answers to `.auto` URLs
// get `Vary: Accept`, for caches between CloudFront and the browser.
//
// Must agree with photo_pipeline/core/delivery/routing.py, which explains the rules; a test compares both.

var AUTO = '.auto';
var QUALITY = /^(?:0(?:\.[0-9]*)?|1(?:\.0*)?)$/;

function handler(event) {
    var isAuto = event.request.uri.slice(-AUTO.length) === AUTO;
    if (event.context && event.context.eventType === 'viewer-response') {
        return isAuto ? varying(event.response) : event.response;
    }
    if (isAuto) {
        var stem = event.request.uri.slice(0, -AUTO.length);
        event.request.uri = stem + '.' + bestExtension(acceptOf(event.request));
    }
    return event.request;
}

function acceptOf(request) {
    var header = request.headers && request.headers.accept;
    if (!header) {
        return '';
    }
    // A header sent several times arrives in multiValue, and means the same as one with commas.
    var several = header.multiValue || [header];
    var values = [];
    for (var i = 0; i < several.length; i++) {
        values.push(several[i].value || '');
    }
    return values.join(',');
}

function bestExtension(accept) {
    var ranges = accept.toLowerCase().split(',');
    var avif = 2;
    var webp = 2;
    // A type that is named twice has its lowest quality; 2 means that it was not named.
    for (var i = 0; i < ranges.length; i++) {
        var parts = ranges[i].split(';');
        var name = trim(parts[0]);
        if (name === 'image/avif') {
            avif = Math.min(avif, qualityOf(parts));
        } else if (name === 'image/webp') {
            webp = Math.min(webp, qualityOf(parts));
        }
    }
    if (avif > 0 && avif < 2) {
        return 'avif';
    }
    return webp > 0 && webp < 2 ? 'webp' : 'jpg';
}

function qualityOf(parts) {
    for (var i = 1; i < parts.length; i++) {
        var split = parts[i].indexOf('=');
        var key = split < 0 ? parts[i] : parts[i].slice(0, split);
        if (trim(key) === 'q') {
            var value = split < 0 ? '' : trim(parts[i].slice(split + 1));
            return QUALITY.test(value) ? parseFloat(value) : 0;
        }
    }
    return 1;
}

// Not String.trim, which takes other characters away than Python's strip: a header has spaces and tabs.
function trim(text) {
    return text.replace(/^[ \t]+|[ \t]+$/g, '');
}

function varying(response) {
    var headers = response.headers || {};
    var present = headers.vary ? headers.vary.value : '';
    if (!/(^|,)[ \t]*(accept|\*)[ \t]*(,|$)/i.test(present)) {
        headers.vary = { value: present ? present + ', Accept' : 'Accept' };
    }
    response.headers = headers;
    return response;
}
