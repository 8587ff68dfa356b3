-- get(text): a setting's stored value
SELECT s.value FROM embed.setting s WHERE s.name = $1

-- put(text, text): store it
INSERT INTO embed.setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value
