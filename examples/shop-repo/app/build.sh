#!/bin/sh
# Checks the theme and assembles public/ from app/.
set -eu

value() {
    sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" app/theme.toml
}

echo "checking app/theme.toml"
for key in name heading tagline accent; do
    if [ -z "$(value "$key")" ]; then
        echo "error: app/theme.toml: '$key' is missing or not a text in double quotes" >&2
        exit 1
    fi
done

accent=$(value accent)
if ! printf '%s' "$accent" | grep -Eq '^#[0-9a-f]{6}$'; then
    echo "error: app/theme.toml: accent must be a colour such as \"#0f766e\", not \"$accent\"" >&2
    exit 1
fi

for page in layout orders order stock; do
    if [ ! -s "app/pages/$page.html" ]; then
        echo "error: app/pages/$page.html is missing" >&2
        exit 1
    fi
done

echo "assembling public/app.css with accent $accent"
mkdir -p public
{
    printf ':root { --accent: %s; }\n' "$accent"
    cat app/css/*.css
} > public/app.css
cp app/live.js public/live.js

echo "built $(wc -c < public/app.css | tr -d ' ') bytes of CSS"
